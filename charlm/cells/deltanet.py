"""The gated DeltaNet: a matrix memory that replaces the value of a key."""

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.cells.base import State
from charlm.cells.matrix import MatrixCell, Reading, by_head, in_sequence, unseen


class DeltaNet(MatrixCell):
    """One layer that decays a matrix, takes out the value that it holds for a key, and writes
    another. For each head, with q_t, k_t and v_t projections of x_t through SiLU, q_t and k_t
    divided by their lengths:

        alpha_t = sigma(W_a x_t + b_a),   beta_t = sigma(W_b x_t + b_b)    one number a head each
        S_t = alpha_t S_{t-1} (I - beta_t k_t k_t^T) + beta_t v_t k_t^T
        h_t = o_t * S_t q_t,   o_t = sigma(W_o x_t + b_o)

    The paper's layer also has short convolutions and a normalised output; [model] normalization
    adds a norm around any cell.

    Source: Yang, Kautz and Hatamizadeh 2024, "Gated Delta Networks" (arXiv 2412.06464), equation
    10. A chunk is computed from S_t = sum over s of (A_t / A_s) u_s k_s^T, with A the product of
    alpha so far and u_t = beta_t (v_t - alpha_t S_{t-1} k_t): a triangular system for all u.
    """

    state_parts: ClassVar = ("h", "memory")

    def initial_state(self, lanes: int) -> State:
        """Return the state before any text, zeros. Shapes: [B, H], [B, N, P, K]."""
        zeros = self.weight_ih.new_zeros
        units = (self.hidden_size + self.padding) // self.heads
        shape = lanes, self.heads, units, self.key_size
        return zeros(lanes, self.hidden_size), zeros(shape)

    def activated(self, value: Tensor) -> Tensor:
        return F.silu(value)

    def read(self, x: Tensor) -> Reading:
        seen = super().read(x)
        query, key = (F.normalize(F.silu(part), dim=-1) for part in (seen.query, seen.key))
        return Reading(query, key, seen.value, seen.output, seen.write, seen.keep)

    def step(self, x: Tensor, state: State) -> State:
        seen = self.read(x)
        alpha, beta = (torch.sigmoid(gate).unsqueeze(-1) for gate in (seen.keep, seen.write))
        memory = alpha.unsqueeze(-1) * state[1]
        held = (memory @ seen.key.unsqueeze(-1)).squeeze(-1)
        change = beta * (seen.value - held)
        memory = memory + change.unsqueeze(-1) * seen.key.unsqueeze(-2)
        found = (memory @ seen.query.unsqueeze(-1)).squeeze(-1)
        return self.revealed(seen.output, found), memory

    def computed(self, seen: Reading, state: State, sections: Tensor) -> tuple[Tensor, State]:
        _, memory = state
        query, key, value = by_head(seen.query), by_head(seen.key), by_head(seen.value)
        beta = torch.sigmoid(by_head(seen.write)).unsqueeze(-1)
        decay = F.logsigmoid(by_head(seen.keep)).cumsum(-1)  # ln A
        hidden, forgotten = unseen(sections)
        logs = decay.unsqueeze(-1) - decay.unsqueeze(-2)  # of s for t
        weights = torch.exp(logs.masked_fill(hidden, -math.inf))
        of_state = torch.exp(decay.masked_fill(forgotten, -math.inf)).unsqueeze(-1)
        system = (beta * (key @ key.mT) * weights).tril(-1)
        wanted = beta * (value - of_state * (key @ memory.mT))
        changes = torch.linalg.solve_triangular(system, wanted, upper=False, unitriangular=True)
        found = (query @ key.mT * weights) @ changes + of_state * (query @ memory.mT)
        last = weights[..., -1, :].unsqueeze(-1)
        memory = (last * changes).mT @ key + of_state[..., -1, :].unsqueeze(-1) * memory
        return in_sequence(found), (state[0], memory)
