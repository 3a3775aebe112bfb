"""Sampling by the kernels, with states, packed weights and scratch memory allocated once.

Symbols: N texts at once, V vocabulary size, H hidden size, G gate blocks.
"""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.config.schema import REPETITION_LENGTH, REPETITION_WINDOW, SampleConfig
from charlm.native.interface import Kernels, LayerArgs, Writer, address, aligned

ELEMENTS = {"float32": (4, 0), "bfloat16": (2, 0), "int8": (1, 8)}
"""Bytes of a weight, and extra elements after each column: EXTRA in kernels/product.h."""
IN_A_ROW = 192
"""Most products that are summed one after another for the table, or half of them if there are fewer
than twice as many: as MKL does, so that its bits are those of torch (with AVX-512 and AVX2)."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class SampledCell:
    """The weights of a cell with gate blocks. bias_n: the part of bias_hh that cannot be added to
    the input's share; bias: the sum of the others. Both are None for a cell without biases.

    Shapes: weight_ih [G*H, I], weight_hh [G*H, H] or [H] or None, bias [G*H], bias_n [H].
    """

    variant: str
    weight_ih: Floats
    weight_hh: Floats | None
    bias: Floats | None
    bias_n: Floats | None

    @classmethod
    def of(cls, variant: str, weights: Mapping[str, Floats]) -> "SampledCell":
        """Merge the biases of a cell's weights, as `ProjectedCell.merged_biases` does."""
        matrices = weights["weight_ih"], weights.get("weight_hh")
        own, recurrent = weights.get("bias_ih"), weights.get("bias_hh")
        if own is None or recurrent is None:
            return cls(variant, *matrices, own, None)
        if variant != "gru_after":
            return cls(variant, *matrices, own + recurrent, None)
        gates = len(own) // 3 * 2  # the rows of r and z
        merged = own.copy()
        merged[:gates] += recurrent[:gates]
        return cls(variant, *matrices, merged, recurrent[gates:])


@dataclass(frozen=True)
class SampledParts:
    """The parts of a model that are sampled from.

    vectors: the first layer's input for each symbol, [V, I]; None for one-hot vectors. end: see
    `model.Parts`.

    Shapes: head_weight [V, H], head_bias [V].
    """

    cells: Sequence[SampledCell]
    vectors: Floats | None
    head_weight: Floats
    head_bias: Floats
    end: int | None = None


class NativeSampler:
    """A sampler that carries the states of N texts, on one thread, without allocations.

    name: of the type of the weights, one of `kernels.types`.
    """

    chunk_size = 32
    """Best number of symbols per call of `write`."""

    def __init__(self, kernels: Kernels, name: str, parts: SampledParts, texts: int) -> None:
        cells, end = parts.cells, parts.end
        self._kernels, self._name, self.texts = kernels, name, texts
        self._kept: list[Any] = []  # arrays and structures that the C structures point to
        self._states: list[tuple[NDArray[Any], NDArray[Any]]] = []
        """All parts of the states, a row for each text, with a row of the initial state."""
        self._hidden_size = int(parts.head_weight.shape[1])
        self._hidden = self._hidden_size + -self._hidden_size % kernels.width
        self.vocabulary_size = len(parts.head_bias)
        layers: list[Any] = []
        for cell in cells:
            layers.append(self._layer(cell, layers[-1] if layers else None))
        layers[0].table = self._keep(self._table(cells[0], parts.vectors))
        self._layers = (LayerArgs * len(layers))(*layers)
        columns = self.vocabulary_size + -self.vocabulary_size % kernels.width
        self.logits: Floats = aligned((texts, columns), np.float32)
        self._written = np.empty((texts, 0), np.int64)
        """The last symbols of each text, for the repetition penalty."""
        self._writer = Writer(
            layers=len(layers),
            texts=texts,
            hidden=self._hidden,
            vocabulary=self.vocabulary_size,
            layer_args=ctypes.addressof(self._layers),
            head=self._packed_head(parts.head_weight, columns),
            head_bias=self._keep(_padded(parts.head_bias, columns)),
            logits=self._keep(self.logits),
            end=-1 if end is None else end,
        )

    def read(self, symbols: NDArray[np.int64]) -> Floats:
        """Read one more symbol in every text; return the logits, valid until the next call.

        Shapes: [N] -> [N, V]. Raises: IndexError for a symbol outside V.
        """
        assert symbols.dtype == np.int64
        assert symbols.shape == (self.texts,)
        if int(symbols.min()) < 0 or int(symbols.max()) >= self.vocabulary_size:
            raise IndexError(f"symbols are 0 to {self.vocabulary_size - 1}")
        self._kernels.call("read", self._name, self._writer, np.ascontiguousarray(symbols), 1)
        return self.logits[: self.texts, : self.vocabulary_size]

    def occupy(self, texts: int) -> None:
        """Make `read` read the first `texts` texts only, which takes less time. texts: from 1 to
        the number with which the sampler was made."""
        assert 1 <= texts <= len(self.logits)
        self.texts = self._writer.texts = texts
        for layer in self._layers:
            layer.B = texts

    def copy(self, text: int, to: int) -> None:
        """Set the state of a text to that of another."""
        for states, _ in self._states:
            states[to] = states[text]

    def forget(self, text: int) -> None:
        """Set the state of one text to the initial one."""
        for states, initial in self._states:
            states[text] = initial

    def write(
        self, uniforms: NDArray[np.float64], config: SampleConfig, unknown: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Choose symbols one after another, from the current logits on, reading each.

        unknown: a symbol that is never chosen. uniforms: a number in [0, 1) for every choice.

        Shapes: uniforms [count, N]; symbols [count, N]; their surprisals in nats, before any
        filter, [count, N].
        """
        assert uniforms.dtype == np.float64
        writer = self._writer
        for key in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty"):
            setattr(writer, key, getattr(config, key))
        writer.unknown = -1 if unknown is None else unknown
        writer.written = None
        if config.repetition_penalty > 1:
            kept = self._written[:, -REPETITION_WINDOW:]
            room = np.zeros((self.texts, len(uniforms)), np.int64)
            self._written = np.concatenate([kept, room], 1)
            writer.written, writer.past = address(self._written), kept.shape[1]
            writer.window, writer.stretch = REPETITION_WINDOW, REPETITION_LENGTH
        symbols = np.empty(uniforms.shape, np.int64)
        nats = np.empty(uniforms.shape, np.float64)
        self._kernels.call(
            "write", self._name, writer, np.ascontiguousarray(uniforms), len(uniforms), symbols,
            nats,
        )  # fmt: skip
        return symbols, nats

    def _layer(self, cell: SampledCell, below: Any) -> Any:
        H, size = self._hidden, ELEMENTS[self._name][0]
        kind = self._kernels.kinds[cell.variant].number
        args = LayerArgs(kind=kind, T=1, B=self.texts, H=H, threads=1)
        if cell.weight_hh is not None and cell.weight_hh.ndim == 1:
            args.own_weights = self._keep(_padded(cell.weight_hh, H))
        elif cell.weight_hh is not None:
            args.forward_weights = self._packed(cell, cell.weight_hh)
        if cell.bias_n is not None:
            args.bias = self._keep(_padded(cell.bias_n, H))
        if below is not None:
            args.below, args.below_size = below.h, H
            args.below_weights = self._packed(cell, cell.weight_ih)
            args.below_bias = self._keep(self._bias(cell))
        h = aligned(2 * self.texts * H * size, np.uint8)
        zeros = np.zeros(2 * self.texts * H, np.float32)
        self._kernels.call("store", self._name, zeros, len(zeros), h)
        args.h = self._keep_state(h.reshape(2 * self.texts, -1))
        args.state = self._keep_state(aligned((self.texts, H), np.float32))
        if cell.variant == "lstm":
            args.c = self._keep_state(aligned((self.texts, H), np.float32))
        if cell.variant == "gru_before":
            args.scratch = self._keep(aligned((self.texts, H), np.float32))
            args.reset_h = self._keep(aligned(self.texts * H * size, np.uint8))
        return args

    def _table(self, cell: SampledCell, vectors: Floats | None) -> Floats:
        """Return the first layer's input to the gates for each symbol, biases included.

        Shape: [V, G * padded H].
        """
        if vectors is None:
            return self._rows(cell, cell.weight_ih).T + self._bias(cell)
        V, size = vectors.shape
        most = size if size <= IN_A_ROW else min(IN_A_ROW, size // 2)
        columns = self._gates(cell) * self._hidden
        table, part = aligned((V, columns), np.float32), aligned((V, columns), np.float32)
        for begin in range(0, size, most):
            few = vectors[:, begin : begin + most]
            K = few.shape[1] + -few.shape[1] % self._kernels.width
            rows = aligned((V, K), np.float32)
            rows[:, : few.shape[1]] = few
            weight = self._rows(cell, cell.weight_ih[:, begin : begin + most], K)
            packed = aligned(weight.shape, np.float32)
            self._kernels.call("pack_writer_head", "float32", columns, K, weight, packed)
            self._kernels.call("product", "float32", rows, K, V, K, packed, columns, part, 1)
            table += part
        table += self._bias(cell)
        return table

    def _bias(self, cell: SampledCell) -> Floats:
        """Return the merged biases with zeros for the padding units, [G * padded H]."""
        if cell.bias is None:
            return aligned(self._gates(cell) * self._hidden, np.float32)
        blocks: Floats = self._rows(cell, cell.bias[:, None])[:, 0]
        return blocks

    def _packed(self, cell: SampledCell, weight: Floats) -> int | None:
        """Pack a [G*H, H] matrix with padded units for the kernels; return its address."""
        kind = self._kernels.kinds[cell.variant].number
        H, (size, extra) = self._hidden, ELEMENTS[self._name]
        padded = self._rows(cell, weight, H)
        packed = aligned(len(padded) * (H + extra) * size, np.uint8)
        self._kernels.call("pack_writer", self._name, kind, H, H, padded, packed)
        return self._keep(packed)

    def _packed_head(self, weight: Floats, columns: int) -> int | None:
        H, (size, extra) = self._hidden, ELEMENTS[self._name]
        padded = aligned((columns, H), np.float32)
        padded[: len(weight), : weight.shape[1]] = weight
        packed = aligned(columns * (H + extra) * size, np.uint8)
        self._kernels.call("pack_writer_head", self._name, columns, H, padded, packed)
        return self._keep(packed)

    def _rows(self, cell: SampledCell, matrix: Floats, columns: int = 0) -> Floats:
        """Add rows of zeros for the padding units to each gate block, and to `columns` columns.

        Shapes: [G*H, I] -> [G * padded H, I or more].
        """
        own, gates = matrix.shape[1], self._gates(cell)
        padded = aligned((gates, self._hidden, max(columns, own)), np.float32)
        padded[:, : self._hidden_size, :own] = matrix.reshape(gates, -1, own)
        return padded.reshape(gates * self._hidden, -1)

    def _gates(self, cell: SampledCell) -> int:
        """Return the number of gate blocks."""
        return len(cell.weight_ih) // self._hidden_size

    def _keep_state(self, initial: NDArray[Any]) -> int | None:
        self._states.append((initial, initial[0].copy()))
        return self._keep(initial)

    def _keep(self, array: NDArray[Any]) -> int | None:
        array = np.ascontiguousarray(array)
        self._kept.append(array)
        return address(array)


def _padded(vector: Floats, size: int) -> Floats:
    """Add zeros to a vector up to a size."""
    padded = aligned(size, np.float32)
    padded[: len(vector)] = vector
    return padded
