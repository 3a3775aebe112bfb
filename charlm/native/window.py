"""One recurrent layer over a window by the kernels, forward and by hand backward.

Symbols: T time, B lanes, I input size, H hidden size, V vocabulary size, G gate blocks. Hidden
sizes are filled up to whole vectors with units that are always zero; `filled` H stands for those.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.cells.base import Cell, State
from charlm.native.interface import KEPT, KINDS, TYPES, Kernels, address, rows_at
from charlm.native.interface import Window as Structure
from charlm.native.products import rows_product, weight_gradient


class Window:
    """A layer's way forward over a window, done when it is made; and once, its way `back`.

    given: the vectors of all V symbols, with `symbols` to look them up ([V, I], float32, and
    [T, B]); or the vectors of the window itself ([T, B, I], I whole vectors, in `precision`).
    way_back: keep what `back` needs.

    To be made and asked under torch.no_grad().

    Shapes: state [B, H] each, float32; `output` [T, B, filled H] in `precision`; `after` as state.
    """

    def __init__(
        self,
        kernels: Kernels,
        cell: Cell,
        precision: torch.dtype,
        given: Tensor,
        symbols: Tensor | None,
        state: State,
        *,
        way_back: bool,
    ) -> None:
        self._kernels, self._cell, self._precision = kernels, cell, precision
        self._given, self._symbols = given, symbols
        self._room = -cell.hidden_size % kernels.width
        self._H = cell.hidden_size + self._room
        T, B = (given if symbols is None else symbols).shape[:2]
        self._weight_ih = self._filled(cell.weight_ih, 0 if symbols is not None else given.shape[2])
        self._weight_hh = self._filled(cell.weight_hh, self._H)
        bias, self._bias_n = self._biases()
        self._arrays: dict[str, Tensor | None] = {}
        self.lent: list[Tensor] = []
        """Buffers that the gradients of the parameters are in."""
        self._sizes = {"kind": KINDS[cell.kernel], "T": T, "B": B, "H": self._H}
        if symbols is not None:
            table = F.linear(given, self._weight_ih, bias)
            self._arrays |= {"symbols": symbols, "table": table}
        else:
            assert given.dtype == precision
            self._sizes["below_size"] = given.shape[2]
            weights, self._below_back = self._packed(self._weight_ih, way_back, together=True)
            if bias is None:
                bias = torch.zeros(len(self._weight_ih))
            self._arrays |= {"below": given, "below_weights": weights, "below_bias": bias}
        self._forward(state, way_back)

    def _forward(self, state: State, way_back: bool) -> None:
        kernels, precision, kind = self._kernels, self._precision, self._cell.kernel
        T, B, H = self._sizes["T"], self._sizes["B"], self._H
        ahead, back = self._packed(self._weight_hh, way_back, together=False)
        h = kernels.borrow(T + 1, B, H, dtype=precision)
        carried = [F.pad(part, (0, self._room)) if self._room else part.clone() for part in state]
        h[0] = carried[0]
        arrays = self._arrays
        arrays |= {"forward": ahead, "backward": back, "bias": self._bias_n, "h": h}
        arrays["state"] = carried[0]
        if kind == "lstm":
            arrays["c"] = carried[1]
            if way_back:
                arrays["c_before"] = kernels.borrow(T * B * H, dtype=torch.float32)
        if KEPT[kind] and way_back:
            arrays["gates"] = kernels.borrow(T * B * H * KEPT[kind], dtype=precision)
        if kind == "gru_before":
            arrays["q"] = kernels.borrow(T, B, H, dtype=precision)
            arrays["scratch"] = kernels.borrow(B, H, dtype=torch.float32)
        self._run("forward")
        self.output, self.after = (
            h[1:],
            tuple(part[:, : self._cell.hidden_size] for part in carried),
        )
        done = ["forward", "below_weights", "scratch"] + ([] if way_back else ["q"])
        kernels.give_back(*(arrays.pop(name, None) for name in done))

    def forget(self) -> None:
        """Give back what is left; `output` may not be read any more."""
        lent = ("h", "backward", "c_before", "gates", "q")
        self._kernels.give_back(*(self._arrays.pop(name, None) for name in lent))

    def back(self, d_output: Tensor) -> Tensor:
        """Fills the gradients of the cell's parameters; returns that of `given`.

        Shapes: d_output [T, B, filled H] in `precision`; the result as `given`.
        """
        kernels, kind, H = self._kernels, self._cell.kernel, self._H
        rows, columns = d_output.shape[0] * d_output.shape[1], len(self._weight_hh)
        after = kind == "gru_after"
        d_rows = kernels.borrow(rows, columns + H if after else columns, dtype=self._precision)
        carried = kernels.borrow(*d_output.shape[1:], dtype=torch.float32)
        self._arrays |= {"d_output": d_output, "d_state": carried, "d_c": carried}
        self._arrays["d_projected"] = d_rows
        self._run("backward")
        kernels.give_back(carried)

        h = self._arrays["h"]
        assert h is not None
        before = h[:-1].view(rows, H)
        d_projected, d_product = d_rows[:, -columns:], d_rows[:, :columns]  # of W_ih x, of W_hh h
        d_weight_hh = self._lent(columns, H)
        if kind == "gru_before":
            gates, q = 2 * H, self._arrays["q"]
            assert q is not None
            weight_gradient(kernels, d_product[:, :gates], before, d_weight_hh[:gates])
            weight_gradient(kernels, d_product[:, gates:], q.view(rows, H), d_weight_hh[gates:])
        else:
            turn = 2 * H if after else 0  # the candidate's block comes first in d_product
            sums = weight_gradient(kernels, d_product, before, d_weight_hh, rotate=turn)
        d_weight_ih, d_bias, d_given = self._back_below(d_projected)
        cell, I = self._cell, self._cell.input_size  # noqa: E741
        cell.weight_hh.grad = self._unfilled(d_weight_hh, cell.hidden_size)
        cell.weight_ih.grad = self._unfilled(d_weight_ih, I)
        if cell.bias_ih is not None and cell.bias_hh is not None:
            cell.bias_ih.grad = self._unfilled(d_bias)
            cell.bias_hh.grad = self._unfilled(sums.roll(turn) if after else d_bias.clone())
        kernels.give_back(d_rows)
        self.forget()
        return d_given

    def _back_below(self, d_projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of W_ih, of its bias, and of `given`."""
        kernels, (rows, columns) = self._kernels, d_projected.shape
        if self._symbols is not None:
            V = len(self._given)
            d_table = kernels.borrow(V, columns, dtype=torch.float32)
            kernels.call(
                "scatter", TYPES[self._precision], rows_at(d_projected), d_projected.stride(0),
                self._symbols, rows, columns, d_table, V, torch.get_num_threads(),
            )  # fmt: skip
            found = d_table.t() @ self._given, d_table.sum(0), d_table @ self._weight_ih
            kernels.give_back(d_table)
            return found
        below = self._given.view(rows, -1)
        d_weight_ih = self._lent(columns, below.shape[1])
        d_bias = weight_gradient(kernels, d_projected, below, d_weight_ih)
        d_given = kernels.borrow(*self._given.shape, dtype=self._precision)
        assert self._below_back is not None
        rows_product(kernels, d_projected, self._below_back, d_given.view(rows, -1))
        kernels.give_back(self._below_back)
        return d_weight_ih, d_bias, d_given

    def _lent(self, *shape: int) -> Tensor:
        self.lent.append(self._kernels.borrow(*shape, dtype=torch.float32))
        return self.lent[-1]

    def _run(self, function: str) -> None:
        pointers = {name: address(tensor) for name, tensor in self._arrays.items()}
        window = Structure(threads=torch.get_num_threads(), **self._sizes, **pointers)
        self._kernels.call(function, TYPES[self._precision], window)

    def _biases(self) -> tuple[Tensor | None, Tensor | None]:
        """See `Cell.merged_biases`."""
        if self._cell.bias_ih is None:
            return None, None
        merged, bias_n = (
            bias if bias is None or not self._room else self._filled(bias)
            for bias in self._cell.merged_biases()
        )
        return merged, bias_n

    def _packed(
        self, weight: Tensor, way_back: bool, *, together: bool
    ) -> tuple[Tensor, Tensor | None]:
        """For the way forward and, if there is one, the way back."""
        kernels, precision, count = self._kernels, self._precision, weight.numel()
        ahead = kernels.borrow(count, dtype=precision)
        back = kernels.borrow(count, dtype=precision) if way_back else None
        kernels.call(
            "pack", TYPES[precision], KINDS[self._cell.kernel], self._H, weight.shape[1],
            weight.contiguous(), ahead, back, together, torch.get_num_threads(),
        )  # fmt: skip
        return ahead, back

    def _filled(self, parameter: Tensor, columns: int = 0) -> Tensor:
        """With zeros for the filled-up units, block by block, and up to so many columns."""
        H, parameter = self._cell.hidden_size, parameter.detach()
        wider = (0, max(0, columns - parameter.shape[1])) if parameter.dim() == 2 else ()
        if not self._room and not any(wider):
            return parameter
        blocks = parameter.view(-1, H, *parameter.shape[1:])
        return F.pad(blocks, (*wider, 0, self._room)).flatten(0, 1)

    def _unfilled(self, gradient: Tensor, columns: int = 0) -> Tensor:
        """The gradient of a parameter from that of its `_filled` form."""
        if not self._room and (not columns or columns == gradient.shape[1]):
            return gradient
        blocks = gradient.view(-1, self._H, *gradient.shape[1:])[:, : self._cell.hidden_size]
        result = blocks.flatten(0, 1)
        return result[:, :columns].contiguous() if columns else result.contiguous()
