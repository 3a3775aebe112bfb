"""Lanes: texts that a model reads side by side, of which any may begin or end at any time.

A step costs no more than the lanes that are open: the states of the open ones stand together.
Symbols: K open lanes, V vocabulary size.
"""

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from charlm.native.writing import NativeSampler

if TYPE_CHECKING:
    from charlm.models.recurrent import CharModel

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


class Lanes(Protocol):
    """Lanes with a state each."""

    def open(self) -> None:
        """Add a lane in the initial state, after the others."""
        ...

    def close(self, lane: int) -> None:
        """Remove a lane; the last one takes its place."""
        ...

    def read(self, symbols: Integers) -> Floats:
        """Read one more symbol in every lane; return the logits, valid until the next call.

        Shapes: [K] -> [K, V].
        """
        ...


class NativeLanes:
    """`Lanes` of the kernels, at most as many as the sampler has texts."""

    def __init__(self, sampler: NativeSampler) -> None:
        self._sampler, self._count = sampler, 0

    def open(self) -> None:
        """Add a lane in the initial state, after the others."""
        self._sampler.forget(self._count)
        self._count += 1
        self._sampler.occupy(self._count)

    def close(self, lane: int) -> None:
        """Remove a lane; the last one takes its place."""
        self._count -= 1
        if lane < self._count:
            self._sampler.copy(self._count, lane)
        self._sampler.occupy(max(1, self._count))

    def read(self, symbols: Integers) -> Floats:
        """Read one more symbol in every lane; return the logits."""
        return self._sampler.read(symbols)


class TorchLanes:
    """`Lanes` of a model by the cells' own equations, on any device. threads: of torch, in the
    thread that reads."""

    def __init__(self, model: "CharModel", threads: int) -> None:
        from charlm.sampling.engine import TorchEngine  # here: it imports torch

        self._model, self._engine, self._count = model, TorchEngine(model), 0
        self._threads = threads

    def open(self) -> None:
        """Add a lane in the initial state, after the others."""
        import torch

        fresh = self._model.initial_states(1)
        if self._count:
            fresh = [
                tuple(torch.cat(parts) for parts in zip(before, new, strict=True))
                for before, new in zip(self._engine.states, fresh, strict=True)
            ]
        self._engine.states = fresh
        self._count += 1

    def close(self, lane: int) -> None:
        """Remove a lane; the last one takes its place."""
        self._count -= 1
        kept = list(range(self._count))
        if lane < self._count:
            kept[lane] = self._count
        self._engine.states = [tuple(part[kept] for part in state) for state in self._engine.states]

    def read(self, symbols: Integers) -> Floats:
        """Read one more symbol in every lane; return the logits."""
        import torch

        from charlm.backends.device import use_threads

        with use_threads(self._threads):
            given = torch.from_numpy(symbols).to(self._model.head.weight.device)
            logits: Floats = self._engine.read(given).float().cpu().numpy()
        return logits
