"""Cells whose gates see the input alone, so that a sequence is one product and a cheap recurrence.

Symbols: T time, B lanes, I input size, H hidden size, G gate blocks.
"""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from charlm.cells.base import ProjectedCell, State, fill_matrix_


class LinearCell(ProjectedCell):
    """One layer with h_t = a_t * h_{t-1} + b_t, in which a_t and b_t depend on x_t alone.

    Shapes: weight_ih [G*H, I], bias_ih [G*H] or None: gate blocks of H rows, one below the other.
    """

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size, bias=bias)
        rows = len(self.gates) * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.bias_ih = nn.Parameter(torch.empty(rows)) if bias else None

    @abstractmethod
    def activations(self, projected: Tensor) -> tuple[Tensor, ...]:
        """Return the value of every gate. Shapes: projected [..., G*H], the result of `project`;
        [..., H] each."""

    @abstractmethod
    def coefficients(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """Return a and b of the recurrence. Shapes: [..., G*H] -> [..., H] each."""

    def gate_values(self, x: Tensor, state: State) -> tuple[Tensor, ...]:
        return self.activations(self.project(x))

    def advance(self, projected: Tensor, state: State) -> State:
        a, b = self.coefficients(projected)
        return (a * state[0] + b,)

    def forward(
        self, x: Tensor, state: State, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        return recurrence(*self.coefficients(self.project(x)), state, resets)

    @torch.no_grad()
    def reset_parameters(
        self, scheme: str, generator: torch.Generator, input_std: float | None = None
    ) -> None:
        """Fill the parameters as `GatedCell.reset_parameters` does those for the input."""
        if scheme == "uniform":
            super().reset_parameters(scheme, generator)
        else:
            for block in self.weight_ih.chunk(len(self.gates)):
                fill_matrix_(block, "xavier" if scheme == "orthogonal" else scheme, generator)
            if self.bias_ih is not None:
                self.bias_ih.zero_()
        if input_std is not None:
            nn.init.normal_(self.weight_ih, std=input_std, generator=generator)


def recurrence(
    a: Tensor, b: Tensor, state: State, resets: Tensor | None, *, is_rectified: bool = False
) -> tuple[Tensor, State]:
    """Compute a sequence of h_t = a_t * h_{t-1} + b_t, or relu of it. resets: see `Cell.forward`.

    Shapes: a and b [T, B, H]; state [B, H].
    """
    (h,) = state
    if resets is not None:
        a = a.masked_fill(resets.unsqueeze(-1), 0)  # the initial state is zero
    output: Tensor = LinearRecurrence.apply(  # type: ignore[no-untyped-call]
        a.to(h.dtype), b.to(h.dtype), h, is_rectified
    )
    return output, (output[-1],)


class LinearRecurrence(torch.autograd.Function):
    """h_t = a_t * h_{t-1} + b_t for a sequence, or relu of it, with its gradient by hand: an
    operation or two a step.

    Shapes: a and b [T, B, H], h [B, H]; the states after every step [T, B, H].
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, h: Tensor, is_rectified: bool = False) -> Tensor:
        states = torch.empty_like(b)
        before = h
        for t in range(len(b)):
            before = torch.addcmul(b[t], a[t], before, out=states[t])
            if is_rectified:
                before.relu_()
        ctx.is_rectified = is_rectified
        ctx.save_for_backward(a, states, h)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor | None, ...]:
        a, states, h = ctx.saved_tensors
        d_b = d_states.clone(memory_format=torch.contiguous_format)
        if ctx.is_rectified:
            d_b[-1] *= states[-1] > 0
        for t in reversed(range(len(a) - 1)):
            d_b[t].addcmul_(a[t + 1], d_b[t + 1])
            if ctx.is_rectified:
                d_b[t] *= states[t] > 0
        d_a = d_b * torch.cat([h.unsqueeze(0), states[:-1]])
        return d_a, d_b, a[0] * d_b[0], None
