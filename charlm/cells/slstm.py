"""The sLSTM: an LSTM with an exponential input gate and a normalised memory."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from charlm.cells.base import Cell, State, fill_matrix_, uniform_

NOTHING = -1e30
"""ln of the scale of an empty memory: of no weight beside any other."""


class SLSTM(Cell):
    """One layer whose input gate has no upper bound; the memory is divided by the sum of the gates.

        g_t = tanh(W_g [h_{t-1}, x_t] + b_g)           candidate
        i_t = exp(a_i),   a_i = W_i [h_{t-1}, x_t] + b_i
        f_t = sigma(W_f [h_{t-1}, x_t] + b_f)
        o_t = sigma(W_o [h_{t-1}, x_t] + b_o)
        c_t = f_t * c_{t-1} + i_t * g_t,   n_t = f_t * n_{t-1} + i_t
        h_t = o_t * c_t / n_t

    c and n are kept divided by exp(m_t), m_t = max(ln f_t + m_{t-1}, a_i), so that nothing
    overflows; h does not depend on m. The gates i and f that are shown are divided alike:
    exp(a_i - m_t) and exp(ln f_t + m_{t-1} - m_t), one of which is 1.

    Shapes: weight_ih [4H, I], weight_hh [4H, H], bias_ih [4H] or None: the blocks i, f, g, o.

    Source: Beck et al. 2024, "xLSTM" (arXiv 2405.04517), equations 8 to 17, with one head.
    """

    letters: ClassVar = ("i", "f", "g", "o")
    state_parts: ClassVar = ("h", "c", "normalizer", "ln_scale")

    def __init__(
        self, input_size: int, hidden_size: int, *, bias: bool = True, forget_bias: float = 1.0
    ) -> None:
        super().__init__(input_size, hidden_size, bias=bias)
        self.forget_bias = forget_bias
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(4 * hidden_size)) if bias else None

    def initial_state(self, lanes: int) -> State:
        """Return the state before any text: h, c and n are zero, and m is that of no memory."""
        h, c, n, m = super().initial_state(lanes)
        return h, c, n, m.fill_(NOTHING)

    def project(self, x: Tensor) -> Tensor:
        """Return the input's share of every gate. Shapes: [..., I] -> [..., 4H]."""
        return F.linear(x, self.weight_ih, self.bias_ih)

    def activations(self, projected: Tensor, state: State) -> tuple[Tensor, ...]:
        """Return i, f, g, o as they are shown, and m_t. Shapes: [B, H] each."""
        h, m = state[0], state[3]
        a = (projected + F.linear(h, self.weight_hh)).to(m.dtype)
        a_i, a_f, a_g, a_o = a.chunk(4, -1)
        kept = F.logsigmoid(a_f) + m
        after = torch.maximum(kept, a_i).detach()  # nothing but c and n depends on it
        i, f = torch.exp(a_i - after), torch.exp(kept - after)
        return i, f, torch.tanh(a_g), torch.sigmoid(a_o), after

    def advance(self, projected: Tensor, state: State) -> State:
        """Return the state after one symbol. projected: the result of `project`, [B, 4H]."""
        i, f, g, o, m = self.activations(projected, state)
        c, n = f * state[1] + i * g, f * state[2] + i
        return o * c / n, c, n, m

    def gate_values(self, x: Tensor, state: State) -> tuple[Tensor, ...]:
        return self.activations(self.project(x), state)[:4]

    def step(self, x: Tensor, state: State) -> State:
        return self.advance(self.project(x), state)

    def forward(
        self, x: Tensor, state: State, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        if resets is not None:
            return self.unroll(x, state, resets)
        h, c, n, m = state
        output, memory, m = NormalizedMemory.apply(  # type: ignore[no-untyped-call]
            self.project(x), h, torch.stack([c, n]), m, self.weight_hh
        )
        return output, (output[-1], memory[0], memory[1], m)

    def hold(self, x: Tensor, before: State, after: State, unit: int, value: float) -> State:
        """Return the state with the unit's memory c / n at `value`, and its h as o shows it."""
        o = self.gate_values(x, before)[3]
        h, c, n, m = (part.clone() for part in after)
        c[:, unit] = value * n[:, unit]
        h[:, unit] = o[:, unit] * value
        return h, c, n, m

    @torch.no_grad()
    def reset_parameters(
        self, scheme: str, generator: torch.Generator, input_std: float | None = None
    ) -> None:
        """Fill the parameters as `GatedCell.reset_parameters` does, then open the forget gate."""
        if scheme == "uniform":
            for parameter in self.parameters():
                uniform_(parameter, self.hidden_size, generator)
        else:
            for block in self.weight_ih.chunk(4):
                fill_matrix_(block, "xavier" if scheme == "orthogonal" else scheme, generator)
            for block in self.weight_hh.chunk(4):
                fill_matrix_(block, scheme, generator)
            if self.bias_ih is not None:
                self.bias_ih.zero_()
        if input_std is not None:
            nn.init.normal_(self.weight_ih, std=input_std, generator=generator)
        if self.bias_ih is not None:
            self.bias_ih[self.hidden_size : 2 * self.hidden_size] += self.forget_bias


class NormalizedMemory(torch.autograd.Function):
    """A sequence of the sLSTM with its gradient by hand: one product a step, forward and backward,
    and one over all steps for the gradient of the weight.

    Shapes: projected [T, B, 4H] (its type is that of the products), h and m [B, H], memory (c and
    n) [2, B, H], weight [4H, H]. Result: the outputs [T, B, H], and memory and m after the last.
    """

    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, h: Tensor, memory: Tensor, m: Tensor, weight: Tensor
    ) -> tuple[Tensor, ...]:
        T, (B, H) = len(projected), h.shape
        w = weight.to(projected.dtype)
        hidden, cells, sums = (h.new_empty(T + 1, B, H) for _ in range(3))
        hidden[0], cells[0], sums[0] = h, *memory
        gates, forgets = h.new_empty(T, B, 4 * H), h.new_empty(T, B, H)
        for t in range(T):
            a = torch.addmm(projected[t], hidden[t].to(w.dtype), w.t()).to(h.dtype)
            a_i, a_f, a_g, a_o = a.chunk(4, -1)
            i, f, g, o = gates[t].chunk(4, -1)
            forgets[t] = F.logsigmoid(a_f)
            kept = forgets[t] + m
            m = torch.maximum(kept, a_i)
            torch.exp(a_i - m, out=i)
            torch.exp(kept - m, out=f)
            torch.tanh(a_g, out=g)
            torch.sigmoid(a_o, out=o)
            torch.addcmul(i * g, f, cells[t], out=cells[t + 1])
            torch.addcmul(i, f, sums[t], out=sums[t + 1])
            torch.mul(o, cells[t + 1] / sums[t + 1], out=hidden[t + 1])
        ctx.save_for_backward(hidden, cells, sums, gates, forgets, weight)
        ctx.kind = projected.dtype
        ctx.mark_non_differentiable(m)
        return hidden[1:], torch.stack([cells[-1], sums[-1]]), m

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_hidden: Tensor, d_memory: Tensor, _: Tensor) -> Any:
        hidden, cells, sums, gates, forgets, weight = ctx.saved_tensors
        w, before, shown = weight.to(ctx.kind), hidden[:-1], cells[1:] / sums[1:]
        i, f, g, o = gates.chunk(4, -1)
        closing = f * (1 - forgets.exp())
        of_c, of_n = o / sums[1:], -o * shown / sums[1:]  # factors of the gradient of h
        by_c = torch.cat([i * g, closing * cells[:-1], i * (1 - g * g)], -1)
        by_n = torch.cat([i, closing * sums[:-1]], -1)
        by_h, H = shown * o * (1 - o), hidden.shape[-1]
        d_projected = torch.empty_like(gates)
        d_h, (d_c, d_n) = torch.zeros_like(hidden[0]), d_memory
        for t in reversed(range(len(gates))):
            d_h = d_h + d_hidden[t]
            d_c, d_n = torch.addcmul(d_c, d_h, of_c[t]), torch.addcmul(d_n, d_h, of_n[t])
            d_a = d_projected[t]
            torch.mul(d_c.repeat(1, 3), by_c[t], out=d_a[:, : 3 * H])
            d_a[:, : 2 * H].addcmul_(d_n.repeat(1, 2), by_n[t])
            torch.mul(d_h, by_h[t], out=d_a[:, 3 * H :])
            d_c, d_n = d_c * f[t], d_n * f[t]
            d_h = (d_a.to(ctx.kind) @ w).to(d_h.dtype)
        rows = d_projected.to(ctx.kind)
        d_weight = rows.flatten(0, 1).t() @ before.to(ctx.kind).flatten(0, 1)
        d_m = d_c * cells[0] + d_n * sums[0]  # of a scale that both are multiplied by
        return rows, d_h, torch.stack([d_c, d_n]), d_m, d_weight.to(weight.dtype)
