"""The multiplicative LSTM."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.cells.base import Cell, State, fill_matrix_
from charlm.cells.lstm import LSTM, hold_memory


class Multiplicative(Cell):
    """One layer whose LSTM reads, in the place of h_{t-1}, a state that each symbol transforms in
    its own way:

        m_t = (W_mx x_t) * (W_mh h_{t-1})

    and then i, f, g, o, c_t and h_t as in `LSTM`, from x_t and m_t.

    Shapes: weight_mx [H, I], weight_mh [H, H].

    Source: Krause et al. 2016, "Multiplicative LSTM for sequence modelling" (arXiv 1609.07959).
    """

    letters: ClassVar = ("m", *LSTM.letters)
    state_parts: ClassVar = LSTM.state_parts

    def __init__(
        self, input_size: int, hidden_size: int, *, bias: bool = True, forget_bias: float = 1.0
    ) -> None:
        super().__init__(input_size, hidden_size, bias=bias)
        self.forget_bias = forget_bias
        self.lstm = LSTM(input_size, hidden_size, bias=bias, forget_bias=forget_bias)
        self.weight_mx = nn.Parameter(torch.empty(hidden_size, input_size))
        self.weight_mh = nn.Parameter(torch.empty(hidden_size, hidden_size))

    def between(self, x: Tensor, state: State) -> Tensor:
        """Return m_t. Shapes: as for `step`; [B, H]."""
        return F.linear(x, self.weight_mx) * F.linear(state[0], self.weight_mh)

    def gate_values(self, x: Tensor, state: State) -> tuple[Tensor, ...]:
        m = self.between(x, state)
        return m, *self.lstm.gate_values(x, (m, state[1]))

    def step(self, x: Tensor, state: State) -> State:
        return self.lstm.step(x, (self.between(x, state), state[1]))

    def unroll(self, x: Tensor, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
        """Compute a sequence by the equations, the input's shares at once. See `forward`."""
        outputs, scales = [], F.linear(x, self.weight_mx)
        for t, projected in enumerate(self.lstm.project(x).unbind(0)):
            if resets is not None:
                state = self.begin_anew(state, resets[t])
            m = scales[t] * F.linear(state[0], self.weight_mh)
            state = self.lstm.advance(projected, (m, state[1]))
            outputs.append(state[0])
        return torch.stack(outputs), state

    def hold(self, x: Tensor, before: State, after: State, unit: int, value: float) -> State:
        """Return the state with the unit's c at `value`, and its h as the output gate shows it."""
        return hold_memory(self.gate_values(x, before)[4], after, unit, value)

    @torch.no_grad()
    def reset_parameters(
        self, scheme: str, generator: torch.Generator, input_std: float | None = None
    ) -> None:
        """Fill the parameters; W_mx x starts with half the deviation of the gates' input, since it
        multiplies the gradient at every step."""
        self.lstm.reset_parameters(scheme, generator, input_std)
        own = "xavier" if scheme == "orthogonal" else scheme
        if scheme == "uniform":
            bound = 1 / math.sqrt(self.hidden_size)
            for weight in (self.weight_mx, self.weight_mh):
                nn.init.uniform_(weight, -bound, bound, generator=generator)
        else:
            fill_matrix_(self.weight_mx, own, generator)
            fill_matrix_(self.weight_mh, scheme, generator)
        if input_std is not None:
            nn.init.normal_(self.weight_mx, std=0.5 * input_std, generator=generator)
