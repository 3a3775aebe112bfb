"""The learning rate as a pure function of the step, so that a resumed run repeats it exactly."""

import math


def learning_rate(
    step: int, *, peak: float, warmup_steps: int, steps: int, final_fraction: float
) -> float:
    """Return the rate of step number `step` (counted from 0): linear warm-up, then half a cosine.

    It rises to `peak` over `warmup_steps` steps and falls to `final_fraction * peak` at `steps`.

    Source: Loshchilov and Hutter, SGDR (arXiv 1608.03983), equation 5, a single period.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
    return peak * (final_fraction + (1.0 - final_fraction) * cosine)
