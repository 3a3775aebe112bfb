"""Forward and backward pass of one recurrent layer over a window by the kernels.

Symbols: T time, B lanes, I input size, H hidden size, V vocabulary size, G gate blocks. Hidden
sizes are padded to whole vectors with units that are always zero; `padded` H stands for those.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.cells.base import GatedCell, State
from charlm.native.interface import TYPES, Kernels, LayerArgs, address, rows_at
from charlm.native.products import rows_product, weight_gradient


@dataclass(frozen=True)
class LayerInput:
    """The input of a layer over a window.

    vectors: of all V symbols, with `symbols` to look them up ([V, I], float32, and [T, B]); or of
    the window itself ([T, B, I], I whole vectors, in the precision of the pass). resets: 1 where a
    lane is reset to zero before it reads the symbol ([T, B], uint8); None: nowhere.
    """

    vectors: Tensor
    symbols: Tensor | None = None
    resets: Tensor | None = None


class LayerPass:
    """A layer's pass over a window: the constructor runs it forward; call `backward` once.

    training: True saves values for `backward`.

    Use it under torch.no_grad().

    Shapes: state [B, H] each, float32; `output` [T, B, padded H] in `precision`; `after` as state.
    """

    def __init__(
        self,
        kernels: Kernels,
        cell: GatedCell,
        precision: torch.dtype,
        given: LayerInput,
        state: State,
        *,
        training: bool,
    ) -> None:
        inputs, symbols = given.vectors, given.symbols
        self._refuse_other_shapes(cell, inputs if symbols is None else symbols, state)
        self._kernels, self._cell, self._precision = kernels, cell, precision
        self._inputs, self._symbols = inputs, symbols
        self._kind = kernels.kinds[cell.variant]
        self._padding = -cell.hidden_size % kernels.width
        self._H = cell.hidden_size + self._padding
        T, B = (inputs if symbols is None else symbols).shape[:2]
        columns = 0 if symbols is not None else inputs.shape[2]
        self._weight_ih = self._padded(cell.weight_ih, columns)
        self._weight_hh = self._padded(cell.weight_hh, self._H)
        bias, self._bias_n = self._biases()
        self._arrays: dict[str, Tensor | None] = {"resets": given.resets}
        self.gradient_buffers: list[Tensor] = []
        """Acquired buffers of the parameters' gradients."""
        self._sizes = {"kind": self._kind.number, "T": T, "B": B, "H": self._H}
        if symbols is not None:
            table = F.linear(inputs, self._weight_ih, bias)
            self._arrays |= {"symbols": symbols, "table": table}
        else:
            assert inputs.dtype == precision
            self._sizes["below_size"] = inputs.shape[2]
            weights, self._below_weights = self._packed(self._weight_ih, training, together=True)
            if bias is None:
                bias = torch.zeros(len(self._weight_ih))
            self._arrays |= {"below": inputs, "below_weights": weights, "below_bias": bias}
        self._forward(state, training)

    def _refuse_other_shapes(self, cell: GatedCell, over: Tensor, state: State) -> None:
        """Check the tensors that C++ reads by address. Raises: ValueError."""
        wanted = (over.shape[1], cell.hidden_size)
        if len(state) != len(cell.state_parts):
            raise ValueError(f"a state of {len(state)} parts, expected {len(cell.state_parts)}")
        for part in state:
            if tuple(part.shape) != wanted or part.dtype != torch.float32:
                raise ValueError(
                    f"a state of {part.dtype} {list(part.shape)}, expected float32 {list(wanted)}"
                )

    def _forward(self, state: State, training: bool) -> None:
        kernels, precision, variant = self._kernels, self._precision, self._cell.variant
        T, B, H = self._sizes["T"], self._sizes["B"], self._H
        forward, backward = self._packed(self._weight_hh, training, together=False)
        h = kernels.acquire(T + 1, B, H, dtype=precision)
        carried = [
            F.pad(part, (0, self._padding)) if self._padding else part.clone() for part in state
        ]
        h[0] = carried[0]
        arrays = self._arrays
        arrays |= {"forward_weights": forward, "backward_weights": backward}
        arrays |= {"bias": self._bias_n, "h": h, "state": carried[0]}
        if variant == "lstm":
            arrays["c"] = carried[1]
            if training:
                arrays["c_before"] = kernels.acquire(T * B * H, dtype=torch.float32)
        if (blocks := self._kind.saved_blocks) and training:
            arrays["gates"] = kernels.acquire(T * B * H * blocks, dtype=precision)
        if variant == "gru_before":
            arrays["reset_h"] = kernels.acquire(T, B, H, dtype=precision)
            arrays["scratch"] = kernels.acquire(B, H, dtype=torch.float32)
        self.output = h[1:]
        if arrays["resets"] is not None:
            self.output = arrays["outputs"] = kernels.acquire(T, B, H, dtype=precision)
        self._run("forward")
        self.after = tuple(part[:, : self._cell.hidden_size] for part in carried)
        done = ["forward_weights", "below_weights", "scratch"] + ([] if training else ["reset_h"])
        kernels.release(*(arrays.pop(name, None) for name in done))

    def release(self) -> None:
        """Release the remaining buffers; `output` must no longer be read."""
        left = ("h", "outputs", "backward_weights", "c_before", "gates", "reset_h")
        self._kernels.release(*(self._arrays.pop(name, None) for name in left))

    def backward(self, d_output: Tensor) -> Tensor:
        """Store the gradients of the cell's parameters; return that of `inputs`.

        Shapes: d_output [T, B, padded H] in `precision`; the result as `inputs`.
        """
        kernels, variant, H = self._kernels, self._cell.variant, self._H
        rows, columns = d_output.shape[0] * d_output.shape[1], len(self._weight_hh)
        after = variant == "gru_after"
        d_rows = kernels.acquire(rows, columns + H if after else columns, dtype=self._precision)
        carried = kernels.acquire(*d_output.shape[1:], dtype=torch.float32)
        self._arrays |= {"d_output": d_output, "d_state": carried, "d_c": carried}
        self._arrays["d_projected"] = d_rows
        self._run("backward")
        kernels.release(carried)

        h = self._arrays["h"]
        assert h is not None
        before = h[:-1].view(rows, H)
        d_projected, d_product = d_rows[:, -columns:], d_rows[:, :columns]  # of W_ih x, of W_hh h
        d_weight_hh = self._gradient_buffer(columns, H)
        if variant == "gru_before":
            gates, reset_h = 2 * H, self._arrays["reset_h"]
            assert reset_h is not None
            weight_gradient(kernels, d_product[:, :gates], before, d_weight_hh[:gates])
            weight_gradient(
                kernels, d_product[:, gates:], reset_h.view(rows, H), d_weight_hh[gates:]
            )
        else:
            turn = 2 * H if after else 0  # the candidate's block comes first in d_product
            sums = weight_gradient(kernels, d_product, before, d_weight_hh, rotate=turn)
        d_weight_ih, d_bias, d_inputs = self._backward_inputs(d_projected)
        cell, I = self._cell, self._cell.input_size  # noqa: E741
        cell.weight_hh.grad = self._unpadded(d_weight_hh, cell.hidden_size)
        cell.weight_ih.grad = self._unpadded(d_weight_ih, I)
        if cell.bias_ih is not None and cell.bias_hh is not None:
            cell.bias_ih.grad = self._unpadded(d_bias)
            cell.bias_hh.grad = self._unpadded(sums.roll(turn) if after else d_bias.clone())
        kernels.release(d_rows)
        self.release()
        return d_inputs

    def _backward_inputs(self, d_projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the gradients of W_ih, of its bias, and of `inputs`."""
        kernels, (rows, columns) = self._kernels, d_projected.shape
        if self._symbols is not None:
            V = len(self._inputs)
            d_table = kernels.acquire(V, columns, dtype=torch.float32)
            kernels.call(
                "scatter", TYPES[self._precision], rows_at(d_projected), d_projected.stride(0),
                self._symbols, rows, columns, d_table, V, torch.get_num_threads(),
            )  # fmt: skip
            gradients = d_table.t() @ self._inputs, d_table.sum(0), d_table @ self._weight_ih
            kernels.release(d_table)
            return gradients
        below = self._inputs.view(rows, -1)
        d_weight_ih = self._gradient_buffer(columns, below.shape[1])
        d_bias = weight_gradient(kernels, d_projected, below, d_weight_ih)
        d_inputs = kernels.acquire(*self._inputs.shape, dtype=self._precision)
        assert self._below_weights is not None
        rows_product(kernels, d_projected, self._below_weights, d_inputs.view(rows, -1))
        kernels.release(self._below_weights)
        return d_weight_ih, d_bias, d_inputs

    def _gradient_buffer(self, *shape: int) -> Tensor:
        self.gradient_buffers.append(self._kernels.acquire(*shape, dtype=torch.float32))
        return self.gradient_buffers[-1]

    def _run(self, function: str) -> None:
        pointers = {name: address(tensor) for name, tensor in self._arrays.items()}
        args = LayerArgs(threads=torch.get_num_threads(), **self._sizes, **pointers)
        self._kernels.call(function, TYPES[self._precision], args)

    def _biases(self) -> tuple[Tensor | None, Tensor | None]:
        """Pad the biases. See `GatedCell.merged_biases`."""
        if self._cell.bias_ih is None:
            return None, None
        merged, bias_n = (
            bias if bias is None or not self._padding else self._padded(bias)
            for bias in self._cell.merged_biases()
        )
        return merged, bias_n

    def _packed(
        self, weight: Tensor, training: bool, *, together: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Pack a matrix for the forward pass and, in training, for the backward pass."""
        kernels, precision, count = self._kernels, self._precision, weight.numel()
        forward = kernels.acquire(count, dtype=precision)
        backward = kernels.acquire(count, dtype=precision) if training else None
        kernels.call(
            "pack", TYPES[precision], self._kind.number, self._H, weight.shape[1],
            weight.contiguous(), forward, backward, together, torch.get_num_threads(),
        )  # fmt: skip
        return forward, backward

    def _padded(self, parameter: Tensor, columns: int = 0) -> Tensor:
        """Add zeros for the padding units, block by block, and pad to `columns` columns."""
        H, parameter = self._cell.hidden_size, parameter.detach()
        wider = (0, max(0, columns - parameter.shape[1])) if parameter.dim() == 2 else ()
        if not self._padding and not any(wider):
            return parameter
        blocks = parameter.view(-1, H, *parameter.shape[1:])
        return F.pad(blocks, (*wider, 0, self._padding)).flatten(0, 1)

    def _unpadded(self, gradient: Tensor, columns: int = 0) -> Tensor:
        """Return the gradient of a parameter from that of its `_padded` form."""
        if not self._padding and (not columns or columns == gradient.shape[1]):
            return gradient
        blocks = gradient.view(-1, self._H, *gradient.shape[1:])[:, : self._cell.hidden_size]
        result = blocks.flatten(0, 1)
        return result[:, :columns].contiguous() if columns else result.contiguous()
