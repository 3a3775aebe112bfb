"""The independently recurrent network."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from charlm.cells.base import ProjectedCell, State, fill_matrix_
from charlm.cells.linear import recurrence


class IndRNN(ProjectedCell):
    """One layer whose units read the input together, and each its own state alone.

        h_t = relu(W x_t + u * h_{t-1} + b)

    u starts uniform in [0, 1], so that units remember for different times.

    Shapes: weight_ih [H, I], weight_hh (u) and bias_ih [H].

    Source: Li et al. 2018, "Independently Recurrent Neural Network" (arXiv 1803.04831), equation 2.
    """

    gates: ClassVar = ("hidden",)
    letters: ClassVar = ("h",)

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size, bias=bias)
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(hidden_size)) if bias else None

    def gate_values(self, x: Tensor, state: State) -> tuple[Tensor, ...]:
        return self.step(x, state)

    def advance(self, projected: Tensor, state: State) -> State:
        return (torch.relu(projected + self.weight_hh * state[0]),)

    def forward(
        self, x: Tensor, state: State, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        projected = self.project(x)
        kept = self.weight_hh.expand_as(projected)
        return recurrence(kept, projected, state, resets, is_rectified=True)

    @torch.no_grad()
    def reset_parameters(
        self, scheme: str, generator: torch.Generator, input_std: float | None = None
    ) -> None:
        """Fill the weights of the input by the scheme, u uniformly in [0, 1], b with zeros."""
        if scheme == "uniform":
            super().reset_parameters(scheme, generator)
        else:
            own = "xavier" if scheme == "orthogonal" else scheme
            fill_matrix_(self.weight_ih, own, generator)
            nn.init.uniform_(self.weight_hh, 0, 1, generator=generator)
            if self.bias_ih is not None:
                self.bias_ih.zero_()
        if input_std is not None:
            nn.init.normal_(self.weight_ih, std=input_std, generator=generator)
