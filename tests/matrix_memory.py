"""A toy cell in one file, as unlike the others as a cell may be: see test_new_cell.py."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from charlm.cells.base import Cell, State

SLOTS = 3


class MatrixMemory(Cell):
    """A hidden state beside a matrix of H x 3 that it writes to and reads from.

    The input is scaled by what the state asks for (so that no projection can be made ahead), and
    there is neither a weight_hh nor a kernel:

        x'_t = 2 sigma(W_s h_{t-1}) * x_t
        k_t = softmax(W_k x'_t);  M_t = 0.9 M_{t-1} + tanh(W_v x'_t) k_t^T
        h_t = tanh(W_h x'_t + sum over the slots of M_t)
    """

    state_parts: ClassVar = ("h", "memory")

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size, bias=bias)
        self.scale = nn.Linear(hidden_size, input_size, bias=bias)
        self.key = nn.Linear(input_size, SLOTS, bias=bias)
        self.value = nn.Linear(input_size, hidden_size, bias=bias)
        self.shown = nn.Linear(input_size, hidden_size, bias=bias)

    def initial_state(self, lanes: int) -> State:
        zeros = self.shown.weight.new_zeros(lanes, self.hidden_size)
        return zeros, torch.full_like(zeros, 0.1).unsqueeze(-1).repeat(1, 1, SLOTS)

    def step(self, x: Tensor, state: State) -> State:
        h, memory = state
        x = 2 * torch.sigmoid(self.scale(h)) * x
        key = self.key(x).softmax(-1)
        memory = 0.9 * memory + torch.tanh(self.value(x)).unsqueeze(-1) * key.unsqueeze(1)
        return torch.tanh(self.shown(x) + memory.sum(-1)), memory
