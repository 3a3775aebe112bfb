"""The plain recurrent cell."""

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.cells.base import GatedCell, State
from charlm.cells.fused import run_fused


class RNN(GatedCell):
    """One layer that mixes the new symbol into a single hidden state.

        h_t = tanh(W_hh h_{t-1} + W_ih x_t + b)        (or relu in the place of tanh)

    Source: the lecture's equation of the recurrent network; Elman 1990.
    """

    gates: ClassVar = ("hidden",)
    letters: ClassVar = ("h",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
    ) -> None:
        super().__init__(input_size, hidden_size, bias=bias)
        self.nonlinearity = nonlinearity

    def activations(self, projected: Tensor, state: State) -> tuple[Tensor, ...]:
        (h,) = state
        a = projected + F.linear(h, self.weight_hh, self.bias_hh)
        return (torch.tanh(a) if self.nonlinearity == "tanh" else torch.relu(a),)

    def advance(self, projected: Tensor, state: State) -> State:
        return self.activations(projected, state)

    def forward(
        self, x: Tensor, state: State, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        if resets is not None:
            return self.unroll(x, state, resets)
        operator = torch.rnn_tanh if self.nonlinearity == "tanh" else torch.rnn_relu
        return run_fused(self, operator, x, state)
