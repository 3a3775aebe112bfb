"""Influence of earlier characters on a prediction.

Symbols: N positions of a text, E size of a symbol's vector.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from charlm.common.errors import UsageError
from charlm.inspection.gradients import unrolled
from charlm.models.recurrent import CharModel
from charlm.text.symbols import SymbolSource

LONGEST = 400
"""Symbols of a text, at most: the cost grows with its square."""
AT_ONCE = 50
"""Positions computed at a time, each in a lane."""


def influence(model: CharModel, symbols: SymbolSource) -> NDArray[np.float64]:
    """Return the influence of symbol s on the prediction of the symbol at t: the gradient of
    ln p(symbol t) with respect to the vector of symbol s, times that vector.

    The text is read from the initial state. A positive value made the actual symbol more likely.
    (To first order: the change of the loss if the vector shrank.)

    Shapes: [N, N], row t, column s; 0 for s >= t.

    Raises: UsageError for a text of one symbol, or one that is too long.

    Source: Shrikumar et al. 2016 (arXiv 1605.01713), gradient times input.
    """
    indices = np.asarray(symbols[:]).astype(np.int64)
    count = len(indices)
    if not 2 <= count <= LONGEST:
        raise UsageError(
            f"the text has {count:,} symbols; it takes 2 to {LONGEST:,}", "give another piece"
        )
    device = model.head.weight.device
    vectors = model.vectors(torch.from_numpy(indices).to(device)).detach()
    result = np.zeros((count, count))
    for first in range(1, count, AT_ONCE):
        targets = torch.arange(first, min(first + AT_ONCE, count), device=device)
        lanes = len(targets)
        steps = int(targets[-1])
        with torch.enable_grad():
            x = vectors[:steps].unsqueeze(1).expand(-1, lanes, -1).clone().requires_grad_()
            read = torch.from_numpy(indices[:steps, None]).to(device).expand(-1, lanes)
            trail = unrolled(model, read, x, model.initial_states(lanes))
            tops = torch.stack([states[-1][0] for states in trail])
            seen = tops[targets - 1, torch.arange(lanes, device=device)]
            goal = torch.from_numpy(indices).to(device)[targets]
            gain = -F.cross_entropy(model.head(seen), goal, reduction="sum")
            (gradient,) = torch.autograd.grad(gain, x)
        drove = (gradient * x.detach()).sum(-1).cpu().double().numpy()  # [steps, lanes]
        result[first : first + lanes, :steps] = drove.T
    return np.tril(result, -1)
