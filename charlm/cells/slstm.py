"""The sLSTM: an LSTM with an exponential input gate and a normalised memory."""

from typing import ClassVar

import torch
from torch import Tensor, nn
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
        after = torch.maximum(kept, a_i)
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

    def unroll(self, x: Tensor, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
        """Compute a sequence by the equations, the input's share at once. See `forward`."""
        outputs = []
        for t, projected in enumerate(self.project(x).unbind(0)):
            if resets is not None:
                state = self.begin_anew(state, resets[t])
            state = self.advance(projected, state)
            outputs.append(state[0])
        return torch.stack(outputs), state

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
