"""The gated recurrent unit, in both of its forms."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.cells.base import Cell, State


class GRU(Cell):
    """One layer with two gates and no cell state beside the hidden one.

    reset_gate="before": the lecture's form. r acts on the state before the matrix product, and z
    weighs the candidate:

        r_t = sigma(W_r [h_{t-1}, x_t] + b_r)
        z_t = sigma(W_z [h_{t-1}, x_t] + b_z)
        n_t = tanh(W [r_t * h_{t-1}, x_t] + b)
        h_t = (1 - z_t) * h_{t-1} + z_t * n_t

    reset_gate="after": the form of torch's nn.GRU and of cuDNN, for which fused kernels exist. It
    differs twice: r acts on the product, and z weighs the old state:

        n_t = tanh(W_in x_t + b_in + r_t * (W_hn h_{t-1} + b_hn))
        h_t = z_t * h_{t-1} + (1 - z_t) * n_t

    With bias=False both are the lecture's bias-free equations.

    Source: the lecture's equations of the GRU; Cho et al. 2014 ("before"); torch.nn.GRU ("after").
    """

    gates: ClassVar = ("reset", "update", "candidate")
    options: ClassVar = ("reset_gate",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        reset_gate: Literal["after", "before"] = "after",
    ) -> None:
        super().__init__(input_size, hidden_size, bias=bias)
        self.reset_gate = reset_gate

    @property
    def kernel(self) -> str:
        return f"gru_{self.reset_gate}"

    def merged_biases(self) -> tuple[Tensor, Tensor | None]:
        """As `Cell.merged_biases`: in the form "after", r multiplies the candidate's bias_hh."""
        if self.reset_gate == "before":
            return super().merged_biases()
        assert self.bias_ih is not None
        assert self.bias_hh is not None
        gates = 2 * self.hidden_size
        merged = self.bias_ih.clone()
        merged[:gates] += self.bias_hh[:gates]
        return merged, self.bias_hh[gates:]

    def advance(self, projected: Tensor, state: State) -> State:
        (h,) = state
        x_r, x_z, x_n = projected.chunk(3, -1)
        if self.reset_gate == "before":
            gates = 2 * self.hidden_size  # the rows of r and z
            w_gates, w_candidate = self.weight_hh[:gates], self.weight_hh[gates:]
            bias = self.bias_hh
            b_gates, b_candidate = (None, None) if bias is None else (bias[:gates], bias[gates:])
            h_r, h_z = F.linear(h, w_gates, b_gates).chunk(2, -1)
            r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
            n = torch.tanh(x_n + F.linear(r * h, w_candidate, b_candidate))
            return ((1 - z) * h + z * n,)
        h_r, h_z, h_n = F.linear(h, self.weight_hh, self.bias_hh).chunk(3, -1)
        r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
        n = torch.tanh(x_n + r * h_n)
        return (z * h + (1 - z) * n,)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        if self.reset_gate == "after":
            return self.run_fused(torch.gru, x, state)
        bias = None if self.bias_ih is None else self.merged_biases()[0]
        output: Tensor = _ResetBefore.apply(  # type: ignore[no-untyped-call]
            F.linear(x, self.weight_ih, bias), state[0], self.weight_hh
        )
        return output, (output[-1],)


class _ResetBefore(torch.autograd.Function):
    """A sequence of the form "before", which no library has, with its way back by hand.

    One product a step for r and z and one for n, on either way; the weights are cast once, and
    their gradient is one product over all steps. (By autograd each step had a gradient of all of
    W_hh of its own, and added it up.)

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
            raise RuntimeError("no second derivatives here: use run_steps")
        states, gates, weight = ctx.saved_tensors
        T, H, kind = len(gates), states.shape[-1], gates.dtype
        rz, n = slice(2 * H), slice(2 * H, None)
        w, before = weight.to(kind), states[:-1]
        r, z, candidate = gates.to(states.dtype).chunk(3, -1)
        # what dh_t and the gradient of r * h are multiplied by, for all steps at once
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
