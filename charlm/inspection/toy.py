"""The lecture's example of a vanishing or exploding gradient: a scalar recurrence."""

import numpy as np
from numpy.typing import NDArray

FACTORS = (0.5, 0.9, 1.0, 1.1, 1.5)
"""Values of b in the lecture's scalar example."""
SEQUENCES, SPREAD = 200, 0.3
"""Number of noise sequences, and the standard deviation of the noise."""


def noise(lags: int) -> NDArray[np.float64]:
    """Draw the noise sequences, [lags, SEQUENCES]; more lags continue those of fewer."""
    return SPREAD * np.random.default_rng(0).standard_normal((lags, SEQUENCES))


def toy(factors: list[float], lags: int) -> dict[str, list[list[float]]]:
    """Compute the lecture's scalar example, h_t = tanh(a x_t + b h_{t-1} + c), with a = 1, c = 0.

    Returns: "powers", b^k, and "gradient", |d h_t / d h_{t-k}| if x is normal noise: the median
    over 200 sequences. Each is a list per b, for k = 0, 1, ... `lags`.

    Source: the lecture's example of vanishing and exploding gradients.
    """
    drawn = noise(lags)
    powers = [[float(b**k) for k in range(lags + 1)] for b in factors]
    gradients = []
    for b in factors:
        h, slopes = np.zeros(SEQUENCES), np.empty((lags, SEQUENCES))
        for step, x in enumerate(drawn):
            h = np.tanh(x + b * h)
            slopes[step] = np.abs(b) * (1 - h**2)
        back = np.cumprod(slopes[::-1], axis=0)
        gradients.append([1.0, *np.median(back, axis=1).tolist()])
    return {"powers": powers, "gradient": gradients}
