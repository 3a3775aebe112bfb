"""A recurrent layer over a window, and the loss, by the kernels: differentiable as any operation.

Symbols: T time, B lanes, V vocabulary size, H hidden size, G gate blocks.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.cells.base import Cell, State
from charlm.native.interface import KEPT, KINDS, TYPES, Kernels, Window, address


def run(kernels: Kernels, cell: Cell, given: Tensor, symbols: Tensor | None, state: State) -> Any:
    """The outputs of a window and the state after it, as `Cell.forward`.

    given: the vectors of all V symbols, with `symbols` to look them up ([V, I] and [T, B]), or
    the vectors of the window ([T, B, I]).
    """
    precision = torch.float32
    if torch.is_autocast_enabled("cpu"):
        precision = torch.get_autocast_dtype("cpu")
    H, blocks, room = cell.hidden_size, len(cell.gates), -cell.hidden_size % kernels.width
    weight: Tensor = cell.weight_hh
    weight_ih: Tensor = cell.weight_ih
    bias, bias_n = (None, None) if cell.bias_ih is None else cell.merged_biases()
    if room:  # units that are always zero fill the last vector
        weight = F.pad(weight.view(blocks, H, H), (0, room, 0, room)).flatten(0, 1)
        weight_ih = F.pad(weight_ih.view(blocks, H, -1), (0, 0, 0, room)).flatten(0, 1)
        bias = None if bias is None else F.pad(bias.view(blocks, H), (0, room)).flatten()
        bias_n = None if bias_n is None else F.pad(bias_n, (0, room))
        state = tuple(F.pad(part, (0, room)) for part in state)
    with torch.autocast("cpu", enabled=symbols is None and precision == torch.bfloat16):
        projected = F.linear(given, weight_ih, bias)
    output, *after = _Layer.apply(  # type: ignore[no-untyped-call]
        kernels, cell.kernel, precision, projected, symbols, weight, bias_n,
        torch.is_grad_enabled(), *state,
    )  # fmt: skip
    if room:
        return output[..., :H], tuple(part[:, :H] for part in after)
    return output, tuple(after)


class _Layer(torch.autograd.Function):
    """Shapes: projected [V, G*H] (float32) or [T, B, G*H]; weight [G*H, H]; bias_n [H]; states
    [B, H] each."""

    @staticmethod
    def forward(
        ctx: Any,
        kernels: Kernels,
        kind: str,
        precision: torch.dtype,
        projected: Tensor,
        symbols: Tensor | None,
        weight: Tensor,
        bias_n: Tensor | None,
        needs_way_back: bool,
        *states: Tensor,
    ) -> tuple[Tensor, ...]:
        H = weight.shape[1]
        T, B = (projected if symbols is None else symbols).shape[:2]
        projected = projected.contiguous()
        if symbols is None:
            projected = projected.to(precision)
        packed = torch.empty(2, weight.numel(), dtype=precision)
        kernels.call(
            "pack", TYPES[precision], KINDS[kind], H, H, weight.detach().contiguous(),
            packed[0], packed[1] if needs_way_back else None, torch.get_num_threads(),
        )  # fmt: skip
        h = torch.empty(T + 1, B, H, dtype=precision)
        h[0] = states[0]
        state, c, gates, q = states[0].detach().clone(), None, None, None
        if kind == "lstm":
            c = torch.empty(T + 1, B, H)
            c[0] = states[1]
        if KEPT[kind] and needs_way_back:
            gates = torch.empty(T, B, KEPT[kind], H, dtype=precision)
        if kind == "gru_before":
            q = torch.empty(T, B, H, dtype=precision)
        arrays = {
            "table": None if symbols is None else projected,
            "symbols": symbols,
            "projected": projected if symbols is None else None,
            "bias": bias_n,
            "forward": packed[0],
            "backward": packed[1],
            "h": h,
            "c": c,
            "gates": gates,
            "q": q,
            "scratch": torch.empty(B, H),
        }
        ctx.sizes = {"kind": KINDS[kind], "T": T, "B": B, "H": H}
        window = _window(ctx.sizes, {**arrays, "state": state})
        kernels.call("forward", TYPES[precision], window)
        ctx.kernels, ctx.kind, ctx.precision, ctx.arrays = kernels, kind, precision, arrays
        ctx.save_for_backward(weight)
        return (h[1:], state) if c is None else (h[1:], state, c[T].clone())

    @staticmethod
    def backward(ctx: Any, d_output: Tensor, *d_states: Tensor) -> tuple[Any, ...]:
        kernels, kind, precision, arrays = ctx.kernels, ctx.kind, ctx.precision, ctx.arrays
        (weight,) = ctx.saved_tensors
        T, B, H = (ctx.sizes[name] for name in ("T", "B", "H"))
        own, rows = TYPES[precision], T * B
        carried = [d.contiguous().clone() for d in d_states]
        d_projected = torch.empty(T, B, weight.shape[0], dtype=precision)
        d_product = torch.empty(T, B, 3 * H, dtype=precision) if kind == "gru_after" else None
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
        d_rows, gates = through.view(rows, -1), weight.shape[0]
        if kind == "gru_before":
            gates = 2 * H
            d_candidate = d_rows[:, gates:].t() @ arrays["q"].view(rows, H)
            d_weight = torch.cat([d_rows[:, :gates].t() @ before, d_candidate]).float()
        else:
            d_weight = (d_rows.t() @ before).float()
        d_bias = None if arrays["bias"] is None else d_rows[:, 2 * H :].sum(0, dtype=torch.float32)
        if ctx.needs_input_grad[8]:
            carried[0] += through[0, :, :gates].float() @ weight[:gates]
        d_given = d_projected
        if arrays["symbols"] is not None:
            d_given = torch.zeros_like(arrays["table"])
            kernels.call(
                "scatter", own, d_projected, arrays["symbols"], rows, weight.shape[0], d_given,
                torch.get_num_threads(),
            )  # fmt: skip
        return (None, None, None, d_given, None, d_weight, d_bias, None, *carried)


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
