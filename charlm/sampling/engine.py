"""Engines for sampling, one symbol at a time.

The first layer's input to the gates, W_ih e(symbol) + b_ih, is looked up in a table made once, and
no module is called per character. One thread is fastest, because a step of one text is too small
to share.
"""

import copy
import math
from abc import ABC, abstractmethod
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from charlm.backends.choice import built_kernels
from charlm.backends.device import use_threads
from charlm.config.schema import REPETITION_WINDOW, SampleConfig
from charlm.models.plain import PlainModel, make_sampler, resolve_precision
from charlm.models.recurrent import CharModel
from charlm.native.interface import Kernels
from charlm.native.writing import NativeSampler
from charlm.sampling.filters import choose, with_repetition_penalty
from charlm.sampling.repetition import repeating


class Engine(Protocol):
    """An engine that reads symbols and samples new ones, carrying the states of N texts.

    Shapes: `read`: symbols [N] (int64) to logits [N, V] (float32), valid until the next call.
    `write`: uniforms [count, N] (float64) to symbols [count, N] and their surprisals in nats,
    before any filter, [count, N]; `unknown` is never written. The repetition penalty compares with
    symbols from `write`, not with those from `read`.
    """

    chunk_size: int
    """Best number of symbols per call of `write`."""

    def read(self, symbols: Tensor) -> Tensor: ...

    def write(
        self, uniforms: Tensor, config: SampleConfig, unknown: int | None
    ) -> tuple[Tensor, Tensor]: ...


def choose_precision(model: CharModel, precision: str = "auto") -> tuple[Kernels | None, str]:
    """Return the kernels for sampling from a model (None for torch), and the precision.

    Raises: UsageError: see `resolve_precision`.
    """
    kernels = built_kernels(model)
    variants = {cell.variant for cell in model.layers()}
    return kernels, resolve_precision(kernels, precision, variants)


def make_engine(model: CharModel, num: int = 1, precision: str = "auto") -> Engine:
    """Make the fastest engine for `num` texts. Raises: UsageError: see `choose_precision`."""
    kernels, precision = choose_precision(model, precision)
    if kernels is None:
        return TorchEngine(model, num)
    return NativeEngine(kernels, model, num, precision)


class NativeEngine:
    """An `Engine` by the kernels, with many symbols per call."""

    chunk_size = NativeSampler.chunk_size

    def __init__(self, kernels: Kernels, model: CharModel, num: int, precision: str) -> None:
        self._sampler = make_sampler(kernels, PlainModel.of(model), num, precision)

    def read(self, symbols: Tensor) -> Tensor:
        """Read one more symbol in every text; return the logits."""
        return torch.from_numpy(self._sampler.read(symbols.numpy()))

    def write(
        self, uniforms: Tensor, config: SampleConfig, unknown: int | None
    ) -> tuple[Tensor, Tensor]:
        symbols, nats = self._sampler.write(uniforms.numpy(), config, unknown)
        return torch.from_numpy(symbols), torch.from_numpy(nats)


class ArrayEngine:
    """An `Engine` called with arrays of numpy, see `writers.Writer`.

    device: of the engine. threads: of torch, during its calls.
    """

    def __init__(self, engine: Engine, device: torch.device, threads: int) -> None:
        self._engine, self._device, self._threads = engine, device, threads
        self.chunk_size = engine.chunk_size

    @torch.inference_mode()
    def read(self, symbols: NDArray[np.int64]) -> None:
        """Read one more symbol in every text."""
        with use_threads(self._threads):
            self._engine.read(torch.from_numpy(symbols).to(self._device))

    @torch.inference_mode()
    def write(
        self, uniforms: NDArray[np.float64], config: SampleConfig, unknown: int | None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        with use_threads(self._threads):
            symbols, nats = self._engine.write(torch.from_numpy(uniforms), config, unknown)
        return symbols.cpu().numpy(), nats.cpu().numpy()


class StepwiseEngine(ABC):
    """An `Engine` that chooses a symbol, then reads it."""

    chunk_size = 1
    _logits: Tensor
    _written: Tensor | None = None
    """The last symbols of each text, for the repetition penalty, [N, up to the window]."""

    @abstractmethod
    def read(self, symbols: Tensor) -> Tensor:
        """Read one more symbol in every text, into `_logits`; return them."""

    @torch.inference_mode()
    def write(
        self, uniforms: Tensor, config: SampleConfig, unknown: int | None
    ) -> tuple[Tensor, Tensor]:
        rows = []
        for uniform in uniforms:
            logits = self._logits.clone()
            if unknown is not None:
                logits[:, unknown] = -math.inf
            if config.repetition_penalty > 1:
                logits = self._penalized(logits, config.repetition_penalty)
            symbols = choose(logits, config, uniform.to(logits.device))
            if self._written is not None:
                self._written = torch.cat([self._written, symbols[:, None]], 1)[
                    :, -REPETITION_WINDOW:
                ]
            surprisal = -self._logits.log_softmax(-1).gather(-1, symbols.unsqueeze(-1))
            rows.append((symbols, surprisal.squeeze(-1)))
            self.read(symbols)
        symbols, nats = (torch.stack(parts) for parts in zip(*rows, strict=True))
        return symbols, nats

    def _penalized(self, logits: Tensor, penalty: float) -> Tensor:
        """Apply the repetition penalty to symbols that would repeat the written text."""
        if self._written is None:
            self._written = torch.empty(len(logits), 0, dtype=torch.int64, device=logits.device)
        repeats = repeating(self._written, logits.shape[-1])
        return with_repetition_penalty(logits, repeats, penalty)


class TorchEngine(StepwiseEngine):
    """An `Engine` by the cells' own equations, on any device."""

    @torch.inference_mode()
    def __init__(self, model: CharModel, num: int = 1) -> None:
        copied = copy.deepcopy(model)
        self.cells, self._projected = copied.layers(), copied.projected_layers()
        for weight in (w for cell in self.cells for w in cell.parameters() if w.dim() == 2):
            weight.data = column_major(weight.data)
        self.head = (column_major(model.head.weight.data), model.head.bias)
        every_symbol = torch.arange(model.vocabulary_size, device=model.head.weight.device)
        self.table = model.vectors(every_symbol)
        """The first layer's input from each symbol, projected if its cell supports it."""
        if self._projected:
            self.table = self._projected[0].project(self.table)
        self.states, self._end = model.initial_states(num), model.end
        self._logits = self.head[0].new_zeros(num, model.vocabulary_size)

    @torch.inference_mode()
    def read(self, symbols: Tensor) -> Tensor:
        """Read one more symbol in every text; return the logits."""
        x = self.table[symbols]
        for layer, cell in enumerate(self.cells):
            if self._end is not None:
                self.states[layer] = cell.begin_anew(self.states[layer], symbols == self._end)
            if layer == 0 and self._projected:
                self.states[layer] = self._projected[0].advance(x, self.states[layer])
            else:
                self.states[layer] = cell.step(x, self.states[layer])
            x = self.states[layer][0]
        self._logits = F.linear(x, *self.head)
        return self._logits


def column_major(weight: Tensor) -> Tensor:
    """Return a matrix laid out so that a product with one vector streams through it once: 1.5 times
    as fast at 2048 x 512 as torch's row-major path."""
    return weight.t().contiguous().t()
