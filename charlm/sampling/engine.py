"""One symbol at a time, at the speed of the weights: the engines behind sampling.

What the first layer gets from a symbol, W_ih e(symbol) + b_ih, is looked up in a table made once,
and no module is called per character. One thread is fastest, because a step of one text is too
small to share.
"""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.backends import choice as backends
from charlm.config.schema import SampleConfig
from charlm.errors import UsageError
from charlm.models.recurrent import CharModel
from charlm.native.interface import Kernels
from charlm.native.writing import Writing
from charlm.sampling.filters import choose as choose_symbols


class Engine(Protocol):
    """Reads symbols and writes new ones, carrying the states of N texts.

    Shapes: `read`: symbols [N] (int64) to logits [N, V] (float32), good until the next call.
    `write`: uniforms [count, N] (float64) to symbols [count, N] and their surprisals in nats,
    before any filter, [count, N]; `unknown` is never written.
    """

    at_once: int
    """How many symbols `write` is best asked for."""

    def read(self, symbols: Tensor) -> Tensor: ...

    def write(
        self, uniforms: Tensor, settings: SampleConfig, unknown: int | None
    ) -> tuple[Tensor, Tensor]: ...


PRECISIONS = ("auto", "float32", "bfloat16", "int8")


def choice(model: CharModel, precision: str = "auto") -> tuple[Kernels | None, str]:
    """The kernels that write with a model here (None: torch does), and in which precision.

    precision: of the weights; "auto" is bfloat16 where the kernels are built and the processor has
    it, else float32.

    Raises: UsageError for a precision that cannot be had.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision} is not known", f"use {', '.join(PRECISIONS)}")
    on_cpu = model.head.weight.device.type == "cpu"
    kernels = backends.built() if on_cpu and model.config.hidden_size >= backends.SMALLEST else None
    if precision == "auto":
        precision = "bfloat16" if kernels and "bfloat16" in kernels.types else "float32"
    if precision != "float32" and (kernels is None or precision not in kernels.types):
        raise UsageError(
            f"weights in {precision} need the native kernels, which are not here for this model",
            "use --precision float32, or train a model on this machine first",
        )
    if precision == "int8" and model.config.nonlinearity == "relu":
        raise UsageError(
            "weights in int8 need states between -1 and 1, relu has none", "use bfloat16"
        )
    return kernels, precision


def engine(model: CharModel, streams: int = 1, precision: str = "auto") -> Engine:
    """The fastest engine for a model here. Raises: UsageError, as `choice`."""
    kernels, precision = choice(model, precision)
    if kernels is None:
        return TorchEngine(model, streams)
    return NativeEngine(kernels, model, streams, precision)


class NativeEngine:
    """By the kernels, many symbols a call. See `Engine`."""

    at_once = 32

    @torch.no_grad()
    def __init__(self, kernels: Kernels, model: CharModel, streams: int, precision: str) -> None:
        first = model.layers()[0]
        table = F.linear(model.vectors(torch.arange(model.vocabulary_size)), first.weight_ih)
        if first.bias_ih is not None:
            table += first.merged_biases()[0]
        head = (model.head.weight.detach(), model.head.bias.detach())
        self._writing = Writing(kernels, precision, model.layers(), table, head, streams)
        self.read = self._writing.read

    def write(
        self, uniforms: Tensor, settings: SampleConfig, unknown: int | None
    ) -> tuple[Tensor, Tensor]:
        return self._writing.write(
            uniforms,
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=settings.top_p,
            unknown=unknown,
        )


class TorchEngine:
    """By the cells' own equations (`Cell.advance`), on any device. See `Engine`."""

    at_once = 1

    @torch.inference_mode()
    def __init__(self, model: CharModel, streams: int = 1) -> None:
        self.cells = copy.deepcopy(model.layers())
        for weight in (w for cell in self.cells for w in cell.parameters() if w.dim() == 2):
            weight.data = column_major(weight.data)
        self.head = (column_major(model.head.weight.data), model.head.bias)
        every_symbol = torch.arange(model.vocabulary_size, device=model.head.weight.device)
        self.table = self.cells[0].project(model.vectors(every_symbol))
        self.states = model.initial_states(streams)
        self._logits = self.head[0].new_zeros(streams, model.vocabulary_size)

    @torch.inference_mode()
    def read(self, symbols: Tensor) -> Tensor:
        """The logits after one more symbol in every stream."""
        projected = self.table[symbols]
        for layer, cell in enumerate(self.cells):
            if layer:
                projected = cell.project(self.states[layer - 1][0])
            self.states[layer] = cell.advance(projected, self.states[layer])
        self._logits = F.linear(self.states[-1][0], *self.head)
        return self._logits

    @torch.inference_mode()
    def write(
        self, uniforms: Tensor, settings: SampleConfig, unknown: int | None
    ) -> tuple[Tensor, Tensor]:
        rows = []
        for uniform in uniforms:
            logits = self._logits.clone()
            if unknown is not None:
                logits[:, unknown] = -math.inf
            symbols = choose_symbols(logits, settings, uniform.to(logits.device))
            surprisal = -self._logits.log_softmax(-1).gather(-1, symbols.unsqueeze(-1))
            rows.append((symbols, surprisal.squeeze(-1)))
            self.read(symbols)
        symbols, nats = (torch.stack(parts) for parts in zip(*rows, strict=True))
        return symbols, nats


def column_major(weight: Tensor) -> Tensor:
    """The same matrix, laid out so that a product with one vector streams through it once: 1.5
    times as fast at 2048 x 512 as torch's row-major path."""
    return weight.t().contiguous().t()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch on so many threads inside, as before outside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
