"""What every cell promises: readable equations, a fast path, one set of parameters.

Symbols: T time, B lanes, I input size, H hidden size, G gate blocks.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = tuple[Tensor, ...]
"""What a cell carries from one symbol to the next: (h,) or (h, c), each [B, H]."""


class Cell(nn.Module, ABC):
    """One recurrent layer.

    The equations stand in `advance`, given the input's share of every gate (`project`). `step` is
    one symbol of the equations, `forward` a whole sequence at full speed; both read the same
    parameters, in torch's names, shapes and gate order:

    Shapes: weight_ih [G*H, I], weight_hh [G*H, H], bias_ih and bias_hh [G*H].
    """

    gates: ClassVar[tuple[str, ...]]
    """The gate blocks, in the order in which they stand in the parameters."""
    state_parts: ClassVar[tuple[str, ...]] = ("h",)
    options: ClassVar[tuple[str, ...]] = ()
    """The keys of [model], beyond sizes and bias, that the constructor takes."""

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        rows = len(self.gates) * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(rows)) if bias else None
        self.bias_hh = nn.Parameter(torch.empty(rows)) if bias else None

    @property
    @abstractmethod
    def kernel(self) -> str:
        """The name of the native kernel that computes this cell; see `charlm.native`."""

    def merged_biases(self) -> tuple[Tensor, Tensor | None]:
        """bias_ih + bias_hh, and what of bias_hh cannot be added to the input's share. The cell
        must have biases. Shapes: [G*H], [H]."""
        assert self.bias_ih is not None
        assert self.bias_hh is not None
        return self.bias_ih + self.bias_hh, None

    @abstractmethod
    def advance(self, projected: Tensor, state: State) -> State:
        """The state after one symbol: the equations.

        Shapes: projected [B, G*H], the result of `project`; state: [B, H] each.
        """

    @abstractmethod
    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The outputs for a sequence and the state after it.

        Shapes: x [T, B, I]; state: [B, H] each; output [T, B, H].
        """

    def project(self, x: Tensor) -> Tensor:
        """The input's share of every gate, W_ih x + b_ih. Shapes: [..., I] -> [..., G*H]."""
        return F.linear(x, self.weight_ih, self.bias_ih)

    def step(self, x: Tensor, state: State) -> State:
        """The state after one symbol, by the equations. Shapes: x [B, I]; state: [B, H] each."""
        return self.advance(self.project(x), state)

    def run_steps(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """A sequence by the equations, one symbol after another. Shapes: as `forward`."""
        outputs = []
        for projected in self.project(x).unbind(0):
            state = self.advance(projected, state)
            outputs.append(state[0])
        return torch.stack(outputs), state

    def run_fused(
        self, operator: Callable[..., Any], x: Tensor, state: State
    ) -> tuple[Tensor, State]:
        """A sequence by one of torch's fused operators. Shapes: as `forward`."""
        weights, hidden = self.weights(), [part.unsqueeze(0) for part in state]
        if x.is_cuda:
            # Autocast has cuDNN compute in float16, whatever type it is asked for (torch's
            # AutocastRNN.cpp), and small gradients vanish there: the type is cast here.
            wished = torch.is_autocast_enabled("cuda")
            kind = torch.get_autocast_dtype("cuda") if wished else x.dtype
            weights = in_one_piece(weights, kind)
            x, hidden = x.to(kind), [part.to(kind) for part in hidden]
        given = hidden if len(hidden) > 1 else hidden[0]
        with torch.autocast("cuda", enabled=False) if x.is_cuda else nullcontext():
            output, *after = operator(
                x, given, weights, self.bias_ih is not None, 1, 0.0, self.training, False, False
            )
        return output, tuple(a[0].to(s.dtype) for a, s in zip(after, state, strict=True))

    def initial_state(self, lanes: int) -> State:
        """Zeros, [B, H] each."""
        zeros = self.weight_hh.new_zeros(lanes, self.hidden_size)
        return tuple(zeros.clone() for _ in self.state_parts)

    def weights(self) -> list[Tensor]:
        """The parameters in the order in which torch's fused operators take them."""
        biases = (self.bias_ih, self.bias_hh)
        return [self.weight_ih, self.weight_hh, *(b for b in biases if b is not None)]

    @torch.no_grad()
    def reset_parameters(self, scheme: str, generator: torch.Generator) -> None:
        """Fill the parameters, gate block by gate block; biases start at zero.

        scheme: "orthogonal" (recurrent blocks; input blocks xavier), "xavier", "kaiming", or
        "uniform" (everything within 1/sqrt(H), torch's own default).

        Source: Saxe et al. 2014 (orthogonal), Glorot and Bengio 2010, He et al. 2015.
        """
        if scheme == "uniform":
            bound = 1 / math.sqrt(self.hidden_size)
            for parameter in self.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
            return
        for weight in (self.weight_ih, self.weight_hh):
            for block in weight.chunk(len(self.gates)):
                if scheme == "kaiming":
                    nn.init.kaiming_uniform_(block, nonlinearity="relu", generator=generator)
                elif scheme == "orthogonal" and weight is self.weight_hh:
                    nn.init.orthogonal_(block, generator=generator)
                else:
                    nn.init.xavier_uniform_(block, generator=generator)
        for bias in (self.bias_ih, self.bias_hh):
            if bias is not None:
                bias.zero_()


def in_one_piece(weights: list[Tensor], kind: torch.dtype) -> list[Tensor]:
    """The weights of one layer in another type, side by side as cuDNN wants them: it has room for
    two biases in any case, and copies whatever lies otherwise."""
    rest = weights[0].new_zeros(0 if len(weights) == 4 else 2 * len(weights[0]))
    flat = torch.cat([*(weight.flatten() for weight in weights), rest]).to(kind)
    parts = flat.split_with_sizes([*(weight.numel() for weight in weights), len(rest)])
    return [part.view_as(weight) for part, weight in zip(parts, weights, strict=False)]
