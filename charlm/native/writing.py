"""Sampling by the kernels, with states, packed weights and scratch memory allocated once.

Symbols: N texts at once, V vocabulary size, H hidden size, G gate blocks.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.cells.base import Cell, GatedCell
from charlm.config.schema import REPETITION_LENGTH, REPETITION_WINDOW, SampleConfig
from charlm.native.interface import Kernels, LayerArgs, Writer, address

ELEMENTS = {"float32": (4, 0), "bfloat16": (2, 0), "int8": (1, 8)}
"""Bytes of a weight, and extra elements after each column: EXTRA in kernels/product.h."""


@dataclass(frozen=True)
class SampledParts:
    """The parts of a model that are sampled from.

    table: the first layer's input to the gates for each symbol, biases included, [V, G*H]. end: see
    `Stack`.
    """

    cells: Sequence[Cell]
    table: Tensor
    head: nn.Linear
    end: int | None = None


class NativeSampler:
    """A sampler that carries the states of N texts, on one thread, without allocations.

    name: of the type of the weights, one of `kernels.types`.
    """

    def __init__(self, kernels: Kernels, name: str, parts: SampledParts, texts: int) -> None:
        cells, end = parts.cells, parts.end
        weight, bias = parts.head.weight.detach(), parts.head.bias.detach()
        self._kernels, self._name, self.texts = kernels, name, texts
        self._kept: list[Any] = []  # tensors and structures that the C structures point to
        self._padding = -cells[0].hidden_size % kernels.width
        self._hidden = cells[0].hidden_size + self._padding
        self.vocabulary_size = len(bias)
        assert kernels.supports(cells)
        gated = cast("Sequence[GatedCell]", cells)
        layers: list[Any] = []
        for cell in gated:
            layers.append(self._layer(cell, layers[-1] if layers else None))
        layers[0].table = self._keep(self._blocks(parts.table, len(gated[0].gates)))
        self._layers = (LayerArgs * len(layers))(*layers)
        columns = self.vocabulary_size + -self.vocabulary_size % kernels.width
        self.logits = torch.zeros(texts, columns)
        self._written = torch.empty(texts, 0, dtype=torch.int64)
        """The last symbols of each text, for the repetition penalty."""
        self._writer = Writer(
            layers=len(layers),
            texts=texts,
            hidden=self._hidden,
            vocabulary=self.vocabulary_size,
            layer_args=ctypes.addressof(self._layers),
            head=self._packed_head(weight, columns),
            head_bias=self._keep(F.pad(bias, (0, columns - self.vocabulary_size))),
            logits=self._keep(self.logits),
            end=-1 if end is None else end,
        )

    def read(self, symbols: Tensor) -> Tensor:
        """Read one more symbol in every text; return the logits, valid until the next call.

        Shapes: [N] -> [N, V]. Raises: IndexError for a symbol outside V.
        """
        assert symbols.dtype == torch.int64
        assert symbols.shape == (self.texts,)
        if int(symbols.min()) < 0 or int(symbols.max()) >= self.vocabulary_size:
            raise IndexError(f"symbols are 0 to {self.vocabulary_size - 1}")
        self._kernels.call("read", self._name, self._writer, symbols.contiguous(), 1)
        return self.logits[:, : self.vocabulary_size]

    def write(
        self, uniforms: Tensor, config: SampleConfig, unknown: int | None
    ) -> tuple[Tensor, Tensor]:
        """Choose symbols one after another, from the current logits on, reading each.

        unknown: a symbol that is never chosen. uniforms: a number in [0, 1) for every choice.

        Shapes: uniforms [count, N] (float64); symbols [count, N]; their surprisals in nats, before
        any filter, [count, N] (float64).
        """
        writer = self._writer
        for key in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty"):
            setattr(writer, key, getattr(config, key))
        writer.unknown = -1 if unknown is None else unknown
        writer.written = None
        if config.repetition_penalty > 1:
            kept = self._written[:, -REPETITION_WINDOW:]
            room = torch.zeros(self.texts, len(uniforms), dtype=torch.int64)
            self._written = torch.cat([kept, room], 1)
            writer.written, writer.past = address(self._written), kept.shape[1]
            writer.window, writer.stretch = REPETITION_WINDOW, REPETITION_LENGTH
        symbols = torch.empty(uniforms.shape, dtype=torch.int64)
        nats = torch.empty(uniforms.shape, dtype=torch.float64)
        self._kernels.call(
            "write", self._name, writer, uniforms.contiguous(), len(uniforms), symbols, nats
        )
        return symbols, nats

    def _layer(self, cell: GatedCell, below: Any) -> Any:
        H, size = self._hidden, ELEMENTS[self._name][0]
        kind = self._kernels.kinds[cell.variant].number
        args = LayerArgs(kind=kind, T=1, B=self.texts, H=H, threads=1)
        args.forward_weights = self._packed(cell, cell.weight_hh)
        bias = bias_n = None
        if cell.bias_ih is not None:
            bias, bias_n = cell.merged_biases()
        if bias_n is not None:
            args.bias = self._keep(F.pad(bias_n, (0, self._padding)))
        if below is not None:
            args.below, args.below_size = below.h, H
            args.below_weights = self._packed(cell, cell.weight_ih)
            rows = len(cell.gates)
            merged = torch.zeros(rows * cell.hidden_size) if bias is None else bias
            args.below_bias = self._keep(self._blocks(merged, rows))
        h = torch.empty(2 * self.texts * H * size, dtype=torch.uint8)
        zeros = torch.zeros(2 * self.texts * H)
        self._kernels.call("store", self._name, zeros, len(zeros), h)
        args.h = self._keep(h)
        args.state = self._keep(torch.zeros(self.texts, H))
        if cell.variant == "lstm":
            args.c = self._keep(torch.zeros(self.texts, H))
        if cell.variant == "gru_before":
            args.scratch = self._keep(torch.empty(self.texts, H))
            args.reset_h = self._keep(torch.empty(self.texts * H * size, dtype=torch.uint8))
        return args

    def _packed(self, cell: GatedCell, weight: Tensor) -> int | None:
        """Pack a [G*H, H] matrix with padded units for the kernels; return its address."""
        kind = self._kernels.kinds[cell.variant].number
        H, (size, extra) = self._hidden, ELEMENTS[self._name]
        padded = (
            self._blocks(F.pad(weight, (0, self._padding)).t(), len(cell.gates)).t().contiguous()
        )
        packed = torch.empty(len(padded) * (H + extra) * size, dtype=torch.uint8)
        self._kernels.call("pack_writer", self._name, kind, H, H, padded, packed)
        return self._keep(packed)

    def _packed_head(self, weight: Tensor, columns: int) -> int | None:
        H, (size, extra) = self._hidden, ELEMENTS[self._name]
        padded = F.pad(weight, (0, self._padding, 0, columns - len(weight))).contiguous()
        packed = torch.empty(columns * (H + extra) * size, dtype=torch.uint8)
        self._kernels.call("pack_writer_head", self._name, columns, H, padded, packed)
        return self._keep(packed)

    def _blocks(self, tensor: Tensor, count: int) -> Tensor:
        """Add zeros for the padding units, in each of the `count` blocks of the last dimension."""
        split = tensor.reshape(*tensor.shape[:-1], count, -1)
        return F.pad(split, (0, self._padding)).flatten(-2)

    def _keep(self, tensor: Tensor) -> int | None:
        tensor = tensor.detach().contiguous()
        self._kept.append(tensor)
        return address(tensor)
