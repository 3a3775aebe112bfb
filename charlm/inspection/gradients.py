"""Gradients through time: their norms by lag.

Symbols: T time, B lanes, H hidden size.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from charlm.common.errors import DataError
from charlm.evaluation.reading import WARM_UP
from charlm.models.recurrent import CharModel, States
from charlm.text.stretch import Stretch

LAGS = 64
LANES = 64
QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class ByLag:
    """The norms |d loss_t / d s_{t-k}| of one part s of the state, over the units of all layers.

    Shapes: [lags + 1, B], k = 0 first.
    """

    norms: NDArray[np.float64]

    def means(self) -> list[float]:
        """Return the mean over the positions, by lag."""
        means: list[float] = self.norms.mean(1).tolist()
        return means

    def summary(self) -> dict[str, list[float] | list[list[float]]]:
        """Return the median and both quartiles over the positions, by lag."""
        low, median, high = np.quantile(self.norms, QUARTILES, axis=1)
        return {"median": median.tolist(), "quartiles": [low.tolist(), high.tolist()]}


def gradient_by_lag(
    model: CharModel, stretch: Stretch, *, lags: int = LAGS, lanes: int = LANES
) -> dict[str, ByLag]:
    """Measure the dependence of the loss at t on the state k steps before: |d loss_t / d h_{t-k}|.

    Up to `lanes` positions t are spread evenly over the stretch; the model has read the text before
    each of them. The equations are used, in the model's own precision, so that every
    cell can be measured.

    Returns: by part of the state ("h"; "c" for an LSTM), the norms for k = 0, 1, ... `lags`.

    Raises: DataError if no position in the stretch has `lags` + 1 symbols before it.
    """
    steps = lags + 1
    targets = stretch.positions(lanes, steps)
    if not len(targets):
        raise DataError(
            f"{stretch.stop:,} symbols are too few to look {lags} steps back",
            f"use a text with more than {lags + 1} symbols",
        )
    before = min(WARM_UP, int(targets[0]) - steps)
    read = torch.from_numpy(stretch.with_history(targets, before + steps))
    read = read.to(model.head.weight.device)
    states = warmed_up(model, read[:before]) if before else model.initial_states(len(targets))
    with torch.enable_grad():
        inputs = read[before:-1]
        trail = unrolled(model, inputs, model.vectors(inputs), states)
        logits = model.head(trail[-1][-1][0])
        loss = F.cross_entropy(logits, read[-1], reduction="sum")  # the lanes are independent
        result = {}
        for part, name in enumerate(model.layers()[0].state_parts):
            wanted = [state[part] for states in reversed(trail) for state in states]
            if not wanted[0].requires_grad:  # a scale that the loss does not depend on
                continue
            gradients = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
            result[name] = ByLag(_norms(gradients, wanted, len(model.layers())))
    return result


def warmed_up(model: CharModel, symbols: Tensor) -> States:
    """Return the states after some text, detached from the graph. Shapes: symbols [T, B]."""
    with torch.no_grad():
        _, states = model(symbols, model.initial_states(symbols.shape[1]))
    return [tuple(part.detach() for part in state) for state in states]


def unrolled(model: CharModel, symbols: Tensor, x: Tensor, states: States) -> list[States]:
    """Compute the states after every symbol, with their graph. x: the symbols' vectors.

    Shapes: symbols [T, B], x [T, B, E].
    """
    # Frozen weights leave nothing to differentiate: let the graph begin at the first states.
    states = [tuple(part.requires_grad_() for part in state) for state in states]
    trail = []
    for read, below in zip(symbols, x, strict=True):
        states = model.begin_anew(states, read)
        after: States = []
        for cell, state in zip(model.layers(), states, strict=True):
            state = cell.step(below, state)
            below = state[0]
            after.append(state)
        states = after
        trail.append(states)
    return trail


def _norms(
    gradients: tuple[Tensor | None, ...], wanted: list[Tensor], layers: int
) -> NDArray[np.float64]:
    """Return the gradients' norms over the units of all layers. Shapes: [lags + 1, B]."""
    there = [
        torch.zeros_like(w) if g is None else g for g, w in zip(gradients, wanted, strict=True)
    ]
    stacked = torch.stack(there).cpu().double()
    by_lag = stacked.view(-1, layers, stacked.shape[1], stacked[0, 0].numel())
    norms: NDArray[np.float64] = by_lag.square().sum((1, 3)).sqrt().numpy()
    return norms
