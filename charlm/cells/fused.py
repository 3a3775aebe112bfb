"""Whole sequences at full speed by torch: its fused operators, and the GRU that it lacks.

Symbols: T time, B lanes, I input size, H hidden size.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from charlm.cells.base import GatedCell, State


def run_fused(
    cell: GatedCell, operator: Callable[..., Any], x: Tensor, state: State
) -> tuple[Tensor, State]:
    """Compute a sequence by one of torch's fused operators. Shapes: as `Cell.forward`."""
    weights, hidden = cell.weights(), [part.unsqueeze(0) for part in state]
    if x.is_cuda:
        # Autocast makes cuDNN compute in float16, even for bfloat16 (torch's AutocastRNN.cpp), and
        # small gradients vanish there: the type is cast here.
        wished = torch.is_autocast_enabled("cuda")
        kind = torch.get_autocast_dtype("cuda") if wished else x.dtype
        weights = flatten_weights(weights, kind)
        x, hidden = x.to(kind), [part.to(kind) for part in hidden]
    initial = hidden if len(hidden) > 1 else hidden[0]
    with torch.autocast("cuda", enabled=False) if x.is_cuda else nullcontext():
        output, *after = operator(
            x, initial, weights, cell.bias_ih is not None, 1, 0.0, cell.training, False, False
        )
    return output, tuple(a[0].to(s.dtype) for a, s in zip(after, state, strict=True))


def onednn_refuses(x: Tensor) -> bool:
    """Return True if torch.lstm fails here: by oneDNN in bfloat16 on a processor below AVX-512."""
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return False
    return not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def flatten_weights(weights: list[Tensor], kind: torch.dtype) -> list[Tensor]:
    """Return the weights of one layer in another type, contiguous as cuDNN expects them.

    It always expects room for two biases, and copies weights in any other layout.
    """
    rest = weights[0].new_zeros(0 if len(weights) == 4 else 2 * len(weights[0]))
    flat = torch.cat([*(weight.flatten() for weight in weights), rest]).to(kind)
    parts = flat.split_with_sizes([*(weight.numel() for weight in weights), len(rest)])
    return [part.view_as(weight) for part, weight in zip(parts, weights, strict=False)]


class ResetBefore(torch.autograd.Function):
    """A sequence of the GRU's form "before", which no library has, with its gradient by hand.

    One product per step for r and z and one for n, forward and backward; the weights are cast once,
    and their gradient is one product over all steps. (Autograd would compute and add a gradient of
    all of W_hh at every step.)

    Shapes: projected [T, B, 3H] (its type is that of the products), h [B, H], weight [3H, H].
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, h: Tensor, weight: Tensor) -> Tensor:
        T, H = len(projected), h.shape[1]
        rz, n = slice(2 * H), slice(2 * H, None)
        w = weight.to(projected.dtype)
        states = h.new_empty(T + 1, *h.shape)
        states[0] = h
        gates = torch.empty_like(projected)
        for t in range(T):
            h, h_next = states[t], states[t + 1]
            x, gate = projected[t], gates[t]
            torch.sigmoid(torch.addmm(x[:, rz], h.to(x.dtype), w[rz].t()), out=gate[:, rz])
            reset = (gate[:, :H] * h).to(x.dtype)
            torch.tanh(torch.addmm(x[:, n], reset, w[n].t()), out=gate[:, n])
            torch.lerp(h, gate[:, n].to(h.dtype), gate[:, H : 2 * H].to(h.dtype), out=h_next)
        ctx.save_for_backward(states, gates, weight)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if torch.is_grad_enabled():  # create_graph
            raise RuntimeError("no second derivatives here: use unroll")
        states, gates, weight = ctx.saved_tensors
        T, H, kind = len(gates), states.shape[-1], gates.dtype
        rz, n = slice(2 * H), slice(2 * H, None)
        w, before = weight.to(kind), states[:-1]
        r, z, candidate = gates.to(states.dtype).chunk(3, -1)
        # factors of dh_t and of the gradient of r * h, for all steps at once
        of_n, of_z = z * (1 - candidate * candidate), (candidate - before) * z * (1 - z)
        of_r, kept = before * r * (1 - r), 1 - z
        d_projected = torch.empty_like(gates)
        d = torch.zeros_like(states[0])
        for t in reversed(range(T)):
            d_a = d_projected[t]
            d = d + d_output[t]
            d_a[:, n] = d * of_n[t]
            d_reset = (d_a[:, n] @ w[n]).to(d.dtype)
            d_a[:, :H] = d_reset * of_r[t]
            d_a[:, H : 2 * H] = d * of_z[t]
            d = d * kept[t] + d_reset * r[t] + d_a[:, rz] @ w[rz]
        rows, h = d_projected.flatten(0, 1), before.to(kind).flatten(0, 1)
        reset = (r * before).to(kind).flatten(0, 1)
        d_weight = torch.cat([rows[:, rz].t() @ h, rows[:, n].t() @ reset])
        return d_projected, d, d_weight.to(weight.dtype)
