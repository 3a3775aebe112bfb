"""The use of context by a model: how much of it, and its order or only its symbols.

Symbols: N positions, K lengths of context.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from charlm.backends.choice import computation_of
from charlm.backends.step import Computation
from charlm.common.errors import DataError
from charlm.inspection.excerpt import Excerpt
from charlm.models.recurrent import CharModel

Reals = NDArray[np.float64]

LENGTHS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
FAR = 256
"""Symbols of context in the test of order and presence."""
PLACES = 256
"""Positions of the text that are predicted, the same ones for every length."""
AT_ONCE = 64


@dataclass(frozen=True)
class ContextUse:
    """Surprisals in nats at the same positions with different contexts. Shapes: [K, N] each.

    near: only the last k symbols. shuffled: these, and before them the rest of `FAR` symbols in a
    random order. replaced: the rest is other text.
    """

    lengths: list[int]
    near: Reals
    far_lengths: list[int]
    shuffled: Reals
    replaced: Reals


def context_use(model: CharModel, excerpt: Excerpt, train: np.ndarray) -> ContextUse:
    """Measure a model's surprisal with less context, or with shuffled or replaced context.

    train: symbols that replace the far context. Raises: DataError for a short text.
    """
    least = LENGTHS[5] + 1
    if len(excerpt) <= least:
        raise DataError(
            f"the validation split has {len(excerpt):,} symbols, {least + 1:,} are needed",
            "train on a longer text",
        )
    longest = max(k for k in LENGTHS if k < excerpt.stop and k <= len(excerpt) // 2)
    lengths = [k for k in LENGTHS if k <= longest]
    places = excerpt.positions(PLACES, longest)
    computation = computation_of(model)
    rows = excerpt.with_history(places, longest)
    near = np.stack([_surprisals(computation, rows[longest - k :]) for k in lengths])
    far = min(FAR, longest)
    far_lengths = [k for k in lengths if k <= far]
    generator = np.random.default_rng(0)
    shuffled, replaced = [], []
    for k in far_lengths:
        own = rows[longest - far :].copy()
        own[: far - k] = generator.permuted(own[: far - k], axis=0)
        shuffled.append(_surprisals(computation, own))
        other = rows[longest - far :].copy()
        begins = generator.integers(0, max(1, len(train) - far), len(places))
        other[: far - k] = train[(begins + np.arange(far - k)[:, None]) % len(train)]
        replaced.append(_surprisals(computation, other))
    return ContextUse(lengths, near, far_lengths, np.stack(shuffled), np.stack(replaced))


def _surprisals(computation: Computation, rows: np.ndarray) -> Reals:
    """Return -ln p of the last symbol of each column, read from the initial state.

    Without context a symbol is predicted from the initial state itself.

    Shapes: rows [k + 1, N]; the result [N].
    """
    model = computation.model
    surprisals = []
    for begin in range(0, rows.shape[1], AT_ONCE):
        inputs = torch.from_numpy(rows[:, begin : begin + AT_ONCE]).to(model.head.weight.device)
        states = model.initial_states(inputs.shape[1])
        if len(inputs) == 1:
            with torch.inference_mode():
                logs = model.head(states[-1][0]).float().log_softmax(-1)
            surprisals.append(-logs.gather(1, inputs.T).squeeze(1))
            continue
        with torch.inference_mode():
            losses, _ = computation.surprisals(inputs[:-1], inputs[1:], states)
        surprisals.append(losses[-1].clone())
    joined: Reals = torch.cat(surprisals).cpu().double().numpy()
    return joined
