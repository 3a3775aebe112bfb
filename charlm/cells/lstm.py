"""The long short-term memory cell."""

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.cells.base import GatedCell, State
from charlm.cells.fused import onednn_refuses, run_fused


class LSTM(GatedCell):
    """One layer with a cell state that is only erased, written and revealed through gates.

        i_t = sigma(W_i [h_{t-1}, x_t] + b_i)          input gate: share written
        f_t = sigma(W_f [h_{t-1}, x_t] + b_f)          forget gate: share kept (0 erases)
        g_t = tanh(W_C [h_{t-1}, x_t] + b_C)           candidate to write
        o_t = sigma(W_o [h_{t-1}, x_t] + b_o)          output gate: share revealed
        c_t = f_t * c_{t-1} + i_t * g_t
        h_t = o_t * tanh(c_t)

    Source: the lecture's equations of the LSTM; Hochreiter and Schmidhuber 1997, with the forget
    gate of Gers et al. 2000.
    """

    gates: ClassVar = ("input", "forget", "candidate", "output")
    letters: ClassVar = ("i", "f", "g", "o")
    state_parts: ClassVar = ("h", "c")

    def __init__(
        self, input_size: int, hidden_size: int, *, bias: bool = True, forget_bias: float = 1.0
    ) -> None:
        super().__init__(input_size, hidden_size, bias=bias)
        self.forget_bias = forget_bias

    def activations(self, projected: Tensor, state: State) -> tuple[Tensor, ...]:
        h, _ = state
        a_i, a_f, a_g, a_o = (projected + F.linear(h, self.weight_hh, self.bias_hh)).chunk(4, -1)
        return torch.sigmoid(a_i), torch.sigmoid(a_f), torch.tanh(a_g), torch.sigmoid(a_o)

    def advance(self, projected: Tensor, state: State) -> State:
        i, f, g, o = self.activations(projected, state)
        c = f * state[1] + i * g
        return o * torch.tanh(c), c

    def hold(self, x: Tensor, before: State, after: State, unit: int, value: float) -> State:
        """Return the state with the unit's c at `value`, and its h as the output gate shows it."""
        return hold_memory(self.gate_values(x, before)[3], after, unit, value)

    def forward(
        self, x: Tensor, state: State, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        if resets is not None or onednn_refuses(x):
            return self.unroll(x, state, resets)
        return run_fused(self, torch.lstm, x, state)

    @torch.no_grad()
    def reset_parameters(
        self, scheme: str, generator: torch.Generator, input_std: float | None = None
    ) -> None:
        """Fill the parameters, then open the forget gate, so that memory lasts from the first step.

        Source: Jozefowicz et al. 2015, section 2.2.
        """
        super().reset_parameters(scheme, generator, input_std)
        if self.bias_ih is not None:
            self.bias_ih[self.hidden_size : 2 * self.hidden_size] += self.forget_bias


def hold_memory(o: Tensor, after: State, unit: int, value: float) -> State:
    """Return a state with the unit's c at `value`, and its h as the output gate o shows it."""
    h, c = (part.clone() for part in after)
    c[:, unit] = value
    h[:, unit] = o[:, unit] * math.tanh(value)
    return h, c
