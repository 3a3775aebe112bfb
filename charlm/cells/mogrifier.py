"""The Mogrifier: an LSTM whose input and state gate each other first."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.cells.base import Cell, State
from charlm.cells.lstm import LSTM, hold_memory


class Mogrifier(Cell):
    """One layer that scales the input by the state and the state by the input, in turn, before it
    computes an LSTM from both. In round r = 1, 2, ..., `rounds`:

        x <- 2 sigma(Q_r h) * x                        r odd
        h <- 2 sigma(R_r x) * h                        r even

    and then i, f, g, o, c_t and h_t as in `LSTM`, with this x and h.

    The matrices of the rounds are products of two of `rank` (at most I and H; 0: whole matrices).

    Source: Melis, Kocisky and Blunsom 2020, "Mogrifier LSTM" (arXiv 1909.01792), equations 1 and 2.
    """

    letters: ClassVar = LSTM.letters
    state_parts: ClassVar = LSTM.state_parts

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        forget_bias: float = 1.0,
        rounds: int = 5,
        rank: int = 0,
    ) -> None:
        super().__init__(input_size, hidden_size, bias=bias)
        self.forget_bias, self.rounds, self.rank = forget_bias, rounds, rank
        self.lstm = LSTM(input_size, hidden_size, bias=bias, forget_bias=forget_bias)
        rank = min(rank, input_size, hidden_size)
        self.factors = nn.ParameterList()
        for number in range(rounds):
            rows, columns = (input_size, hidden_size)[:: 1 if number % 2 == 0 else -1]
            shapes = [(rows, rank), (rank, columns)] if rank else [(rows, columns)]
            self.factors += [nn.Parameter(torch.empty(shape)) for shape in shapes]

    def modulated(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return x and h after the rounds. Shapes: [B, I], [B, H]."""
        factors = iter(self.factors)
        for number in range(self.rounds):
            scale = h if number % 2 == 0 else x
            for factor in [next(factors) for _ in range(2 if self.rank else 1)][::-1]:
                scale = F.linear(scale, factor)
            if number % 2 == 0:
                x = 2 * torch.sigmoid(scale) * x
            else:
                h = 2 * torch.sigmoid(scale) * h
        return x, h

    def gate_values(self, x: Tensor, state: State) -> tuple[Tensor, ...]:
        x, h = self.modulated(x, state[0])
        return self.lstm.gate_values(x, (h, state[1]))

    def step(self, x: Tensor, state: State) -> State:
        x, h = self.modulated(x, state[0])
        return self.lstm.step(x, (h, state[1]))

    def hold(self, x: Tensor, before: State, after: State, unit: int, value: float) -> State:
        """Return the state with the unit's c at `value`, and its h as the output gate shows it."""
        return hold_memory(self.gate_values(x, before)[3], after, unit, value)

    @torch.no_grad()
    def reset_parameters(
        self, scheme: str, generator: torch.Generator, input_std: float | None = None
    ) -> None:
        """Fill the LSTM's parameters; the rounds begin with factors close to 1."""
        self.lstm.reset_parameters(scheme, generator, input_std)
        for factor in self.factors:
            bound = 1 / math.sqrt(factor.shape[1])
            nn.init.uniform_(factor, -bound, bound, generator=generator)
