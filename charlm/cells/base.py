"""The interface of all cells, and the base class of cells with torch's parameters.

Symbols: T time, B lanes, I input size, H hidden size, G gate blocks.
"""

import math
from abc import ABC, abstractmethod
from inspect import signature
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = tuple[Tensor, ...]
"""The state that a cell carries from one symbol to the next. The first part is h, [B, H], which is
also the cell's output; the others are [B, ...], of any shape."""


class Cell(nn.Module, ABC):
    """One recurrent layer: `step` computes one symbol by the equations.

    A new cell needs only `step` and its parameters. `forward` (a whole sequence), `initial_state`
    and `reset_parameters` can be overridden, for speed or generality.
    """

    state_parts: ClassVar[tuple[str, ...]] = ("h",)
    """Names of the parts of the state, in order."""
    letters: ClassVar[tuple[str, ...]] = ()
    """The letters of the gates in the equations, in the order of `gate_values`."""
    options: ClassVar[tuple[str, ...]] = ()
    """The keys of [model], beyond sizes and bias, that the constructor takes: by its signature."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls.options = tuple(
            name
            for name, parameter in signature(cls.__init__).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY and name != "bias"
        )

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size

    @property
    def variant(self) -> str:
        """Name of the equations: the class and those of its options that are words, as in
        "gru_before"."""
        words = (getattr(self, option) for option in self.options)
        return "_".join([type(self).__name__.lower(), *(w for w in words if isinstance(w, str))])

    @abstractmethod
    def step(self, x: Tensor, state: State) -> State:
        """Return the state after one symbol. Shapes: x [B, I]; state as `initial_state`."""

    def gate_values(self, x: Tensor, state: State) -> tuple[Tensor, ...]:
        """Return the value of every gate at one symbol, [B, H] each; none for a cell without gates.
        Arguments: those of `step`."""
        return ()

    def initial_state(self, lanes: int) -> State:
        """Return the state before any text: zeros, [B, H] each."""
        zeros = next(self.parameters()).new_zeros(lanes, self.hidden_size)
        return tuple(zeros.clone() for _ in self.state_parts)

    def hold(self, x: Tensor, before: State, after: State, unit: int, value: float) -> State:
        """Return the state after one symbol with the memory of a unit set to `value`: its h, if the
        cell has no other. Arguments: those of `step`, and its result."""
        h = after[0].clone()
        h[:, unit] = value
        return h, *after[1:]

    def begin_anew(self, state: State, lanes: Tensor) -> State:
        """Return the state with some lanes reset to the initial state.

        Shapes: lanes [B] (bool); state as `initial_state`.
        """
        initial = self.initial_state(len(lanes))
        return tuple(
            torch.where(lanes.view(-1, *[1] * (part.dim() - 1)), start, part)
            for part, start in zip(state, initial, strict=True)
        )

    def unroll(self, x: Tensor, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
        """Compute a sequence by the equations, one symbol after another. See `forward`."""
        outputs = []
        for t, x_t in enumerate(x.unbind(0)):
            if resets is not None:
                state = self.begin_anew(state, resets[t])
            state = self.step(x_t, state)
            outputs.append(state[0])
        return torch.stack(outputs), state

    def forward(
        self, x: Tensor, state: State, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Compute the outputs for a sequence and the state after it, as fast as torch can.

        resets: True where a lane is reset before it reads that element; None: nowhere.

        Shapes: x [T, B, I]; state as `initial_state`; resets [T, B] (bool); output [T, B, H].
        """
        return self.unroll(x, state, resets)

    @torch.no_grad()
    def reset_parameters(
        self, scheme: str, generator: torch.Generator, input_std: float | None = None
    ) -> None:
        """Fill every matrix by the scheme, and every vector with zeros.

        scheme: "orthogonal", "xavier", "kaiming", or "uniform" (everything within 1/sqrt(H)).
        input_std: for cells that have weights for the input alone: their standard deviation, in
            place of the scheme's.

        Source: Saxe et al. 2014 (orthogonal), Glorot and Bengio 2010, He et al. 2015.
        """
        for parameter in self.parameters():
            if scheme == "uniform":
                uniform_(parameter, self.hidden_size, generator)
            elif parameter.dim() < 2:
                parameter.zero_()
            else:
                fill_matrix_(parameter, scheme, generator)


class ProjectedCell(Cell):
    """A layer whose gates see the input through one product, which `project` computes for a whole
    sequence at once: gate blocks of H rows, one below the other.

    Shapes: weight_ih [G*H, I], bias_ih [G*H] or None.
    """

    gates: ClassVar[tuple[str, ...]]
    """The gate blocks, in the order of their rows in the parameters."""
    weight_ih: nn.Parameter
    bias_ih: nn.Parameter | None

    @abstractmethod
    def advance(self, projected: Tensor, state: State) -> State:
        """Return the state after one symbol, given the input's share of every gate.

        Shapes: projected [B, G*H], the result of `project`; state: [B, H] each.
        """

    def project(self, x: Tensor) -> Tensor:
        """Return the input's share of every gate, W_ih x + b_ih. Shapes: [..., I] -> [..., G*H]."""
        return F.linear(x, self.weight_ih, self.bias_ih)

    def step(self, x: Tensor, state: State) -> State:
        """Return the state after one symbol. Shapes: x [B, I]; state: [B, H] each."""
        return self.advance(self.project(x), state)

    def merged_biases(self) -> tuple[Tensor, Tensor | None]:
        """Return the sum of all biases that can be added to the input's share, and the other ones.

        The cell must have biases. Shapes: [G*H], [H].
        """
        assert self.bias_ih is not None
        return self.bias_ih, None


class GatedCell(ProjectedCell):
    """A layer with torch's parameters: gates that see the input and the state.

    `activations` and `advance` hold the equations.

    Shapes: weight_ih [G*H, I], weight_hh [G*H, H], bias_ih and bias_hh [G*H], or None.
    """

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size, bias=bias)
        rows = len(self.gates) * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(rows)) if bias else None
        self.bias_hh = nn.Parameter(torch.empty(rows)) if bias else None

    @abstractmethod
    def activations(self, projected: Tensor, state: State) -> tuple[Tensor, ...]:
        """Return the value of every gate for one symbol, [B, H] each: the first half of the
        equations. Shapes: as for `advance`."""

    def gate_values(self, x: Tensor, state: State) -> tuple[Tensor, ...]:
        return self.activations(self.project(x), state)

    def unroll(self, x: Tensor, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
        """Compute a sequence by the equations, the input's share at once. See `forward`."""
        outputs = []
        for t, projected in enumerate(self.project(x).unbind(0)):
            if resets is not None:
                state = self.begin_anew(state, resets[t])
            state = self.advance(projected, state)
            outputs.append(state[0])
        return torch.stack(outputs), state

    def weights(self) -> list[Tensor]:
        """List the parameters in the order in which torch's fused operators take them."""
        biases = (self.bias_ih, self.bias_hh)
        return [self.weight_ih, self.weight_hh, *(b for b in biases if b is not None)]

    def merged_biases(self) -> tuple[Tensor, Tensor | None]:
        """Return bias_ih + bias_hh, and the part of bias_hh that cannot be added to the input's
        share. Shapes: as for `ProjectedCell`."""
        assert self.bias_ih is not None
        assert self.bias_hh is not None
        return self.bias_ih + self.bias_hh, None

    @torch.no_grad()
    def reset_parameters(
        self, scheme: str, generator: torch.Generator, input_std: float | None = None
    ) -> None:
        """Fill the parameters, gate block by gate block; biases start at zero.

        scheme: "orthogonal" (recurrent blocks; input blocks xavier), "xavier", "kaiming", or
            "uniform" (everything within 1/sqrt(H), torch's own default).
        input_std: draw W_ih from a normal distribution of this deviation, under any scheme.

        Source: as for `Cell.reset_parameters`.
        """
        if scheme == "uniform":
            super().reset_parameters(scheme, generator)
        else:
            for weight in (self.weight_ih, self.weight_hh):
                recurrent = weight is self.weight_hh
                for block in weight.chunk(len(self.gates)):
                    own = "xavier" if scheme == "orthogonal" and not recurrent else scheme
                    fill_matrix_(block, own, generator)
            for bias in (self.bias_ih, self.bias_hh):
                if bias is not None:
                    bias.zero_()
        if input_std is not None:
            nn.init.normal_(self.weight_ih, std=input_std, generator=generator)


def uniform_(parameter: Tensor, hidden_size: int, generator: torch.Generator) -> None:
    """Fill a parameter uniformly within 1/sqrt(H)."""
    bound = 1 / math.sqrt(hidden_size)
    nn.init.uniform_(parameter, -bound, bound, generator=generator)


def fill_matrix_(matrix: Tensor, scheme: str, generator: torch.Generator) -> None:
    """Fill a matrix by "orthogonal", "xavier" or "kaiming"."""
    if scheme == "kaiming":
        nn.init.kaiming_uniform_(matrix, nonlinearity="relu", generator=generator)
    elif scheme == "orthogonal":
        nn.init.orthogonal_(matrix, generator=generator)
    else:
        nn.init.xavier_uniform_(matrix, generator=generator)
