"""The recurrent Jacobian, d state_t / d state_{t-1}, and its singular values.

Symbols: S the size of a layer's state, all its parts together.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.cells.base import Cell, State
from charlm.common.errors import DataError
from charlm.evaluation.reading import WARM_UP
from charlm.inspection.gradients import warmed_up
from charlm.models.recurrent import CharModel
from charlm.text.stretch import Stretch

PLACES = 16
"""Positions of a text at which it is computed."""


def singular_values(model: CharModel, stretch: Stretch) -> list[NDArray[np.float64]]:
    """Return the singular values of each layer's recurrent Jacobian at positions spread evenly over
    a stretch, which the model has read up to there.

    A component of the state in a direction with a value below 1 shrinks; above 1 it grows. The
    state comprises all its parts, of an LSTM h and c.

    Shapes: [places, S] each, largest first.

    Raises: DataError for a text that is too short.
    """
    places = stretch.positions(PLACES, WARM_UP + 1)
    if not len(places):
        raise DataError(f"{stretch.stop:,} symbols are too few", f"use more than {WARM_UP + 1:,}")
    read = torch.from_numpy(stretch.with_history(places, WARM_UP)).to(model.head.weight.device)
    states = warmed_up(model, read[:-1])
    x, spectra = model.vectors(read[-1]).detach(), []
    for cell, state in zip(model.layers(), states, strict=True):
        values = []
        for lane in range(len(places)):
            own = tuple(part[lane : lane + 1] for part in state)
            matrix = jacobian(cell, x[lane : lane + 1], own)
            values.append(torch.linalg.svdvals(matrix.cpu().double()).numpy())
        spectra.append(np.stack(values))
        with torch.no_grad():
            x = cell.step(x, state)[0]
    return spectra


def jacobian(cell: Cell, x: Tensor, state: State) -> Tensor:
    """Return d state_t / d state_{t-1} of a cell at one symbol.

    Lane i of a batch of S copies gives row i, so that one backward pass computes all rows.

    Shapes: x [1, I]; state of one lane; the result [S, S].
    """
    flat = torch.cat([part.flatten(1) for part in state], dim=1).detach()
    sizes, size = [part[0].numel() for part in state], flat.shape[1]
    with torch.enable_grad():
        copies = flat.expand(size, size).clone().requires_grad_()
        before = tuple(
            piece.view(size, *part.shape[1:])
            for piece, part in zip(torch.split(copies, sizes, dim=1), state, strict=True)
        )
        after = cell.step(x.expand(size, -1), before)
        joined = torch.cat([part.flatten(1) for part in after], dim=1)
        (rows,) = torch.autograd.grad(joined.diagonal().sum(), copies)
    return rows
