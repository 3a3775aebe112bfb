"""The error of truncated backpropagation through time.

Symbols: T steps of backpropagation, N symbols of a stretch, B stretches.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from charlm.backends.choice import computation_of
from charlm.common.errors import DataError
from charlm.common.progress import track
from charlm.evaluation.adaptation import learning_copy
from charlm.evaluation.reading import WARM_UP
from charlm.inspection.excerpt import Excerpt
from charlm.inspection.gates import lanes_of
from charlm.models.recurrent import CharModel

STRETCH = 512
"""Symbols of backpropagation for the full gradient."""
ROUNDS, LANES = 4, 8
"""Number of gradients compared, and of stretches averaged in each."""


@dataclass(frozen=True)
class TruncationError:
    """Difference between the gradient truncated after T steps and the full one, the mean of rounds.

    cosine: of the angle between them. norm: of the truncated one, relative to the full one's.
    """

    steps: int
    cosine: float
    norm: float


def truncation_errors(model: CharModel, excerpt: Excerpt) -> list[TruncationError]:
    """Compare truncated gradients with the full one over stretches of real text.

    Both are of the same loss, that of all N symbols; the truncated one is the sum over windows of
    T, each from the final state of the last one. Raises: DataError for a short text.
    """
    needed = WARM_UP + STRETCH + 1
    if len(excerpt) < needed:
        raise DataError(
            f"the validation split has {len(excerpt):,} symbols, {needed:,} are needed",
            "train on a longer text",
        )
    computation = computation_of(learning_copy(model))
    device = model.head.weight.device
    read = lanes_of(excerpt, ROUNDS * LANES, needed).to(device)
    lengths = [2**n for n in range(STRETCH.bit_length()) if 2**n <= STRETCH]
    errors: dict[int, list[tuple[float, float]]] = {length: [] for length in lengths}

    def gradient(symbols: Tensor, length: int) -> Tensor:
        states = computation.model.initial_states(LANES)
        with torch.no_grad():
            _, states = computation.surprisals(symbols[:WARM_UP], symbols[1 : WARM_UP + 1], states)
        total = torch.zeros(computation.model.parameter_count(), dtype=torch.float64)
        for begin in range(WARM_UP, len(symbols) - 1, length):
            window = symbols[begin : begin + length + 1]
            states = [tuple(part.clone() for part in state) for state in states]
            _, states = computation.loss_and_gradients(window[:-1], window[1:], states)
            parts = [p.grad.flatten() for p in computation.model.parameters() if p.grad is not None]
            total += torch.cat(parts).cpu().double() * (len(window) - 1) / STRETCH
        return total

    for number in track(range(ROUNDS), "comparing gradients", ROUNDS):
        own = read[:, number::ROUNDS]
        full = gradient(own, STRETCH)
        for length in lengths:
            cut = gradient(own, length)
            cosine = float(torch.dot(cut, full) / (cut.norm() * full.norm()))
            errors[length].append((cosine, float(cut.norm() / full.norm())))
    return [
        TruncationError(length, *np.mean(values, axis=0).tolist())
        for length, values in errors.items()
    ]
