"""A recurrent layer over a window, and the loss, by the kernels: differentiable as any operation.

Symbols: T time, B lanes, V vocabulary size, H hidden size, G gate blocks.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.cells.base import Cell, State
from charlm.native.interface import KEPT, KINDS, TYPES, Kernels, Window, address


BLOCK = 512
"""Rows that weight_gradient packs at a time: BLOCK of kernels/whole.h."""


def run(kernels: Kernels, cell: Cell, given: Tensor, symbols: Tensor | None, state: State) -> Any:
    """The outputs of a window and the state after it, as `Cell.forward`.

    given: the vectors of all V symbols, with `symbols` to look them up ([V, I] and [T, B]), or
    the vectors of the window ([T, B, I]).
    """
    precision = torch.float32
    if torch.is_autocast_enabled("cpu"):
        precision = torch.get_autocast_dtype("cpu")
    H, blocks, room = cell.hidden_size, len(cell.gates), -cell.hidden_size % kernels.width
    weight_ih: Tensor = cell.weight_ih
    weight_hh: Tensor = cell.weight_hh
    bias, bias_n = (None, None) if cell.bias_ih is None else cell.merged_biases()
    if room:  # units that are always zero fill the last vector
        weight_hh = F.pad(weight_hh.view(blocks, H, H), (0, room, 0, room)).flatten(0, 1)
        weight_ih = F.pad(weight_ih.view(blocks, H, -1), (0, 0, 0, room)).flatten(0, 1)
        bias = None if bias is None else F.pad(bias.view(blocks, H), (0, room)).flatten()
        bias_n = None if bias_n is None else F.pad(bias_n, (0, room))
        state = tuple(F.pad(part, (0, room)) for part in state)
    if symbols is not None:
        with torch.autocast("cpu", enabled=False):
            given = F.linear(given, weight_ih, bias)
    else:
        given = given.to(precision)
        if below := -given.shape[-1] % kernels.width:
            given, weight_ih = F.pad(given, (0, below)), F.pad(weight_ih, (0, below))
        if bias is None:
            bias = weight_hh.new_zeros(len(weight_hh))
    output, *after = _Layer.apply(  # type: ignore[no-untyped-call]
        kernels, cell.kernel, precision, torch.is_grad_enabled(), symbols, given,
        weight_hh, bias_n, None if symbols is not None else weight_ih,
        None if symbols is not None else bias, *state,
    )  # fmt: skip
    if room:
        return output[..., :H], tuple(part[:, :H] for part in after)
    return output, tuple(after)


class _Layer(torch.autograd.Function):
    """Every size a multiple of the vectors' width.

    Shapes: given [V, G*H] (float32) with symbols [T, B], or [T, B, I] with weight_ih [G*H, I] and
    bias [G*H]; weight_hh [G*H, H]; bias_n [H]; states [B, H] each.
    """

    @staticmethod
    def forward(
        ctx: Any,
        kernels: Kernels,
        kind: str,
        precision: torch.dtype,
        way_back: bool,
        symbols: Tensor | None,
        given: Tensor,
        weight_hh: Tensor,
        bias_n: Tensor | None,
        weight_ih: Tensor | None,
        bias: Tensor | None,
        *states: Tensor,
    ) -> tuple[Tensor, ...]:
        H = weight_hh.shape[1]
        T, B = (given if symbols is None else symbols).shape[:2]
        given = given.contiguous()
        own, number, threads = TYPES[precision], KINDS[kind], torch.get_num_threads()

        def packed(weight: Tensor, together: bool) -> tuple[Tensor, Tensor | None]:
            ahead = kernels.borrow(weight.numel(), dtype=precision)
            back = kernels.borrow(weight.numel(), dtype=precision) if way_back else None
            kernels.call(
                "pack", own, number, H, weight.shape[1], weight.detach().contiguous(), ahead, back,
                together, threads,
            )  # fmt: skip
            return ahead, back

        ahead, back = packed(weight_hh, together=False)
        h = torch.empty(T + 1, B, H, dtype=precision)
        h[0] = states[0]
        arrays = {
            "symbols": symbols,
            "table": None if symbols is None else given,
            "below": given if symbols is None else None,
            "below_bias": bias,
            "bias": bias_n,
            "forward": ahead,
            "backward": back,
            "h": h,
            "state": states[0].detach().clone(),
            "scratch": kernels.borrow(B, H, dtype=torch.float32),
        }
        if weight_ih is not None:
            arrays["below_weights"], ctx.below_back = packed(weight_ih, together=True)
        if kind == "lstm":
            arrays["c"] = states[1].detach().clone()
            if way_back:
                arrays["c_before"] = kernels.borrow(T * B * H, dtype=precision)
        if KEPT[kind] and way_back:
            arrays["gates"] = kernels.borrow(T * B * KEPT[kind] * H, dtype=precision)
        if kind == "gru_before":
            arrays["q"] = kernels.borrow(T, B, H, dtype=precision)
        ctx.sizes = {"kind": number, "T": T, "B": B, "H": H}
        if symbols is None:
            ctx.sizes["below_size"] = given.shape[-1]
        kernels.call("forward", own, _window(ctx.sizes, arrays))
        kernels.give_back(arrays.pop("scratch"), arrays.pop("forward"))
        kernels.give_back(arrays.pop("below_weights", None))
        if not way_back:
            kernels.give_back(arrays.pop("q", None))
        ctx.kernels, ctx.kind, ctx.precision, ctx.arrays = kernels, kind, precision, arrays
        ctx.save_for_backward(weight_hh)
        after = [arrays["state"]] + ([arrays["c"]] if kind == "lstm" else [])
        return (h[1:], *after)

    @staticmethod
    def backward(ctx: Any, d_output: Tensor, *d_states: Tensor) -> tuple[Any, ...]:
        kernels, kind, precision, arrays = ctx.kernels, ctx.kind, ctx.precision, ctx.arrays
        ctx.arrays = None  # its buffers are given back: there is one way back only
        if arrays is None:
            raise RuntimeError("a second way back through a native layer: its buffers are gone")
        (weight_hh,) = ctx.saved_tensors
        T, B, H = (ctx.sizes[name] for name in ("T", "B", "H"))
        own, rows, columns = TYPES[precision], T * B, len(weight_hh)
        threads = torch.get_num_threads()
        carried = [d.contiguous().clone() for d in d_states]
        d_projected = kernels.borrow(rows, columns, dtype=precision)
        d_product = None
        if kind == "gru_after":
            d_product = kernels.borrow(rows, columns, dtype=precision)
        more = {
            "d_output": d_output.to(precision).contiguous(),
            "d_state": carried[0],
            "d_c": carried[1] if kind == "lstm" else None,
            "d_projected": d_projected,
            "d_product": d_product,
        }
        kernels.call("backward", own, _window(ctx.sizes, {**arrays, **more}))

        before = arrays["h"][:T].view(rows, H)
        through = d_projected if d_product is None else d_product  # the gradient of W_hh h
        d_bias_n = d_weight_ih = d_bias = None
        gates = columns
        if kind == "gru_before":
            gates = 2 * H
            d_weight_hh = torch.empty_like(weight_hh)
            _weight_gradient(kernels, through[:, :gates], before, d_weight_hh[:gates])
            q = arrays["q"].view(rows, H)
            _weight_gradient(kernels, through[:, gates:], q, d_weight_hh[gates:])
        else:
            d_weight_hh = torch.empty_like(weight_hh)
            sums = _weight_gradient(kernels, through, before, d_weight_hh)
            d_bias_n = None if arrays["bias"] is None else sums[2 * H :]
        if any(ctx.needs_input_grad[10:]):
            carried[0] += through[:B, :gates].float() @ weight_hh[:gates]
        if arrays["symbols"] is not None:
            d_given = torch.zeros_like(arrays["table"])
            kernels.call(
                "scatter", own, d_projected, arrays["symbols"], rows, columns, d_given, threads
            )
        else:
            below = arrays["below"].view(rows, -1)
            d_weight_ih = weight_hh.new_empty(columns, below.shape[1])
            d_bias = _weight_gradient(kernels, d_projected, below, d_weight_ih)
            d_given = torch.empty_like(arrays["below"])
            kernels.call(
                "product", own, d_projected, columns, rows, columns, ctx.below_back,
                below.shape[1], d_given, threads,
            )  # fmt: skip
            kernels.give_back(ctx.below_back)
        kernels.give_back(*(arrays.get(name) for name in ("backward", "c_before", "gates", "q")))
        kernels.give_back(d_projected, d_product)
        return (
            *(None,) * 5, d_given, d_weight_hh, d_bias_n, d_weight_ih, d_bias, *carried
        )  # fmt: skip


def _weight_gradient(kernels: Kernels, left: Tensor, right: Tensor, result: Tensor) -> Tensor:
    """Fills `result` with left^T right, and returns the sums of the left columns.

    Shapes: left [rows, J] (its columns side by side), right [rows, I], result [J, I], sums [J].
    """
    rows, J = left.shape
    I = right.shape[1]  # noqa: E741
    sums = result.new_empty(J)
    room = kernels.borrow((J + I) * BLOCK, dtype=left.dtype)
    kernels.call(
        "weights", TYPES[left.dtype], ctypes.c_void_p(left.data_ptr()), left.stride(0), J,
        right, I, I, rows, result, sums, room, torch.get_num_threads(),
    )  # fmt: skip
    kernels.give_back(room)
    return sums


def _window(sizes: dict[str, int], arrays: dict[str, Tensor | None]) -> Any:
    pointers = {name: address(tensor) for name, tensor in arrays.items()}
    return Window(threads=torch.get_num_threads(), **sizes, **pointers)


class CrossEntropy(torch.autograd.Function):
    """The mean of -ln softmax(logits)[target], without a copy of the logits in float32.

    Shapes: logits [N, V], targets [N] (int64).
    """

    @staticmethod
    def forward(ctx: Any, kernels: Kernels, logits: Tensor, targets: Tensor) -> Tensor:
        logits, gradient = logits.detach().contiguous(), torch.empty_like(logits)
        rows, columns = logits.shape
        loss = kernels.call(
            "loss", TYPES[logits.dtype], logits, targets.contiguous(), rows, columns, gradient,
            torch.get_num_threads(),
        )  # fmt: skip
        ctx.save_for_backward(gradient)
        return torch.tensor(loss)

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor) -> tuple[None, Tensor, None]:
        (gradient,) = ctx.saved_tensors
        if d_loss.item() != 1:
            gradient = gradient * d_loss.to(gradient.dtype)
        return None, gradient, None
