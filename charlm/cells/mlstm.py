"""The mLSTM: an LSTM with a matrix for a memory, and gates that see the input alone."""

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.cells.base import State
from charlm.cells.matrix import MatrixCell, Reading, by_head, in_sequence, unseen

NOTHING = -1e30
"""ln of the scale of an empty memory: of no weight beside any other."""
FLOOR = -60.0
"""The least m in exp(-m), which must not overflow."""


class MLSTM(MatrixCell):
    """One layer that adds the outer product of a value and a key to a matrix, and reads it by a
    query. For each head, with q_t, k_t, v_t, a_i and a_f projections of x_t, k_t divided by the
    root of its size:

        i_t = exp(a_i),   f_t = sigma(a_f)             one number a head
        C_t = f_t C_{t-1} + i_t v_t k_t^T
        n_t = f_t n_{t-1} + i_t k_t
        h_t = o_t * C_t q_t / max(|n_t q_t|, 1),   o_t = sigma(W_o x_t + b_o)

    C and n are kept divided by exp(m_t), m_t = max(ln f_t + m_{t-1}, a_i), so that nothing
    overflows; h does not depend on m.

    Source: Beck et al. 2024, "xLSTM" (arXiv 2405.04517), equations 19 to 27; a chunk is computed
    by the form of its appendix, which is that of attention.
    """

    first_write: ClassVar = -3.0
    state_parts: ClassVar = ("h", "memory", "normalizer", "ln_scale")

    def initial_state(self, lanes: int) -> State:
        """Return the state before any text. Shapes: [B, H], [B, N, P, K], [B, N, K], [B, N]."""
        zeros = self.weight_ih.new_zeros
        units = (self.hidden_size + self.padding) // self.heads
        return (
            zeros(lanes, self.hidden_size),
            zeros(lanes, self.heads, units, self.key_size),
            zeros(lanes, self.heads, self.key_size),
            zeros(lanes, self.heads).fill_(NOTHING),
        )

    def read(self, x: Tensor) -> Reading:
        seen = super().read(x)
        scaled = seen.key / math.sqrt(self.key_size)
        return Reading(seen.query, scaled, seen.value, seen.output, seen.write, seen.keep)

    def step(self, x: Tensor, state: State) -> State:
        seen = self.read(x)
        _, memory, normalizer, m = state
        kept = F.logsigmoid(seen.keep) + m
        after = torch.maximum(kept, seen.write)
        i, f = torch.exp(seen.write - after), torch.exp(kept - after)
        memory = f[..., None, None] * memory
        memory = memory + (i.unsqueeze(-1) * seen.value).unsqueeze(-1) * seen.key.unsqueeze(-2)
        normalizer = f.unsqueeze(-1) * normalizer + i.unsqueeze(-1) * seen.key
        found = (memory @ seen.query.unsqueeze(-1)).squeeze(-1)
        found = found / _divisor((normalizer * seen.query).sum(-1), after).unsqueeze(-1)
        return self.revealed(seen.output, found), memory, normalizer, after

    def computed(self, seen: Reading, state: State, sections: Tensor) -> tuple[Tensor, State]:
        _, memory, normalizer, m = state
        query, key, value = by_head(seen.query), by_head(seen.key), by_head(seen.value)
        write, decay = by_head(seen.write), by_head(F.logsigmoid(seen.keep)).cumsum(-1)
        hidden, forgotten = unseen(sections)
        logs = decay.unsqueeze(-1) - decay.unsqueeze(-2) + write.unsqueeze(-2)  # of s for t
        logs = logs.masked_fill(hidden, -math.inf)
        first = (decay + m.unsqueeze(-1)).masked_fill(forgotten, NOTHING)
        after = torch.maximum(logs.amax(-1), first)
        weights, of_state = torch.exp(logs - after.unsqueeze(-1)), torch.exp(first - after)
        scores = query @ key.mT * weights
        found = scores @ value + of_state.unsqueeze(-1) * (query @ memory.mT)
        total = scores.sum(-1) + of_state * (query @ normalizer.unsqueeze(-1)).squeeze(-1)
        found = found / _divisor(total, after).unsqueeze(-1)
        last, kept = weights[..., -1, :].unsqueeze(-1), of_state[..., -1]
        memory = (last * value).mT @ key + kept[..., None, None] * memory
        normalizer = (last * key).sum(-2) + kept.unsqueeze(-1) * normalizer
        return in_sequence(found), (state[0], memory, normalizer, after[..., -1])


def _divisor(total: Tensor, m: Tensor) -> Tensor:
    """Return max(|n q|, 1), divided by exp(m) as n is."""
    return torch.maximum(total.abs(), torch.exp(-m.clamp(min=FLOOR)))
