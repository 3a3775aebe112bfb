"""Reading of a text by the kernels from the weights alone, without torch.

Symbols: T time, B lanes, V vocabulary size.
"""

from dataclasses import dataclass

import numpy as np

from charlm.evaluation.reading import Floats, Integers
from charlm.models.plain import PlainModel, kernels_for, make_sampler
from charlm.native.writing import NativeSampler

MOST_PRODUCTS = 1e11
"""Most products of weights with symbols for which torch is not worth its import. Both ways take as
long at 2e11 on two cores with AVX-512; with any number of cores for torch, at 1e11."""


def is_short(symbols: int, model: PlainModel) -> bool:
    """Return True for a text that one thread reads in less time than torch's import takes."""
    return symbols * sum(weight.size for weight in model.weights.values()) <= MOST_PRODUCTS


@dataclass(frozen=True)
class _PlainLanes:
    """Lanes that a sampler reads. See `reading.Lanes`."""

    sampler: NativeSampler

    def read(self, symbols: Integers, targets: Integers | None) -> Floats:
        """Read symbols; return predictions."""
        logits = np.empty((*symbols.shape, self.sampler.vocabulary_size), np.float32)
        for row, read in zip(logits, symbols, strict=True):
            row[:] = self.sampler.read(read)
        with np.errstate(over="ignore", invalid="ignore"):  # the score is checked as a whole
            logits -= logits.max(-1, keepdims=True)
            sums = np.log(np.exp(logits).sum(-1, keepdims=True))
            if targets is None:
                logits -= sums
                return logits
            costs: Floats = sums - np.take_along_axis(logits, targets[..., None], -1)
        return costs[..., 0]

    def restart(self) -> None:
        """Set the first lane to the initial state."""
        self.sampler.forget(0)


@dataclass(frozen=True)
class PlainNetwork:
    """A plain model as a `reading.Network`, in float32, on one thread; kernels must be there for
    it."""

    model: PlainModel

    @property
    def vocabulary_size(self) -> int:
        return self.model.vocabulary_size

    def lanes(self, count: int) -> _PlainLanes:
        """Return lanes in the initial state."""
        kernels = kernels_for(self.model)
        assert kernels is not None
        return _PlainLanes(make_sampler(kernels, self.model, count, "float32"))
