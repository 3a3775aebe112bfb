"""What goes on inside a model, read only: how much gradient reaches back through time.

Symbols: T time, B lanes, H hidden size.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.errors import DataError
from charlm.evaluation.surprisal import WARM_UP
from charlm.models.recurrent import CharModel, States
from charlm.text.symbols import SymbolSource

LAGS = 64
LANES = 64


def gradient_by_lag(
    model: CharModel,
    symbols: SymbolSource,
    start: int,
    stop: int,
    *,
    lags: int = LAGS,
    lanes: int = LANES,
) -> dict[str, list[float]]:
    """Measure how much the loss at t depends on the state k steps before: |d loss_t / d h_{t-k}|.

    The norm is taken over the units of all layers and its mean over up to `lanes` places t, spread
    evenly over `symbols[start:stop]`; the model has read the text before each of them. By the
    equations, in the model's own precision, so it holds for every cell alike.

    Returns, by part of the state ("h"; "c" for an LSTM), the values for k = 0, 1, ... `lags`.

    Raises: DataError where no place in the stretch has `lags` + 1 symbols before it.
    """
    first = max(start, lags + 1)  # the first target with all its lags before it
    if stop <= first:
        raise DataError(
            f"{stop:,} symbols are too few to look {lags} steps back",
            f"use a text with more than {lags + 1} symbols",
        )
    targets = np.unique(np.linspace(first, stop - 1, lanes).astype(np.int64))
    device = model.head.weight.device
    steps = lags + 1

    def read(begin: int, end: int) -> Tensor:
        """Take the symbols from `begin` to `end` places before the targets, [T, B]."""
        places = targets - np.arange(begin, end, -1)[:, None]
        return torch.from_numpy(symbols[places.clip(0)].astype(np.int64)).to(device)

    with torch.no_grad():
        before = min(WARM_UP, int(targets[0]) - steps)
        states = model.initial_states(len(targets))
        if before:
            _, states = model(read(steps + before, steps), states)
    with torch.enable_grad():
        trail = _unrolled(model, model.vectors(read(steps, 0)), _detached(states))
        logits = model.head(trail[-1][-1][0])
        goal = torch.from_numpy(symbols[targets].astype(np.int64)).to(device)
        loss = F.cross_entropy(logits, goal, reduction="sum")  # the lanes do not touch each other
        result = {}
        for part, name in enumerate(model.layers()[0].state_parts):
            wanted = [state[part] for states in reversed(trail) for state in states]
            gradients = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
            result[name] = _mean_norms(gradients, wanted, len(model.layers()))
    return result


def _unrolled(model: CharModel, x: Tensor, states: States) -> list[States]:
    """Compute the states after every symbol, with their graph. Shapes: x [T, B, E]."""
    # Frozen weights leave nothing to differentiate: let the graph begin at the first states.
    states = [tuple(part.requires_grad_() for part in state) for state in states]
    trail = []
    for given in x.unbind(0):
        after: States = []
        for cell, state in zip(model.layers(), states, strict=True):
            state = cell.step(given, state)
            given = state[0]
            after.append(state)
        states = after
        trail.append(states)
    return trail


def _mean_norms(
    gradients: tuple[Tensor | None, ...], wanted: list[Tensor], layers: int
) -> list[float]:
    """Return the gradients' norms over the units of all layers, averaged over the lanes, by lag."""
    there = [
        torch.zeros_like(w) if g is None else g for g, w in zip(gradients, wanted, strict=True)
    ]
    stacked = torch.stack(there).double()
    by_lag = stacked.view(
        -1, layers, stacked.shape[1], stacked[0, 0].numel()
    )  # [lags + 1, L, B, units]
    means: list[float] = by_lag.square().sum((1, 3)).sqrt().mean(1).tolist()
    return means


def _detached(states: States) -> States:
    """Cut states from the graph that made them."""
    return [tuple(part.detach() for part in state) for state in states]
