"""Cells whose memory is a matrix that maps keys to values, in several heads.

Symbols: T time, B lanes, I input size, H hidden size, N heads, K key size, P units of a head.
"""

from abc import abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.cells.base import Cell, State, fill_matrix_

CHUNK = 64
"""Most symbols that are computed by one set of products: their weights on each other are T x T."""
LONGEST, SHORTEST = 5.0, 2.0
"""The heads' forget gates start with biases evenly between these, beside `forget_bias`."""


@dataclass(frozen=True)
class Reading:
    """The input's share of everything at one symbol, or at each of a sequence.

    Shapes: query and key [..., N, K], value [..., N, P], output [..., H]; write and keep, before
    their activations, [..., N].
    """

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    write: Tensor
    keep: Tensor


class MatrixCell(Cell):
    """One layer with N heads, each with a matrix of P values x K keys. Gates see the input alone.

    Unit j belongs to head j // P, P = ceil(H / N); the last head may have fewer.

    Shapes: weight_ih [2NK + 2H + 2N, I], bias_ih: the blocks query, key, value, output, write and
    keep.
    """

    letters: ClassVar = ("o",)
    input_share: ClassVar = 0.5
    """The share of `input_std` that the weights take: the output is a product of three of them."""
    first_write: ClassVar = 0.0
    """The bias with which the heads' write gates start."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        forget_bias: float = 1.0,
        heads: int = 4,
        key_size: int = 32,
    ) -> None:
        super().__init__(input_size, hidden_size, bias=bias)
        self.forget_bias, self.heads, self.key_size = forget_bias, heads, key_size
        keys = heads * key_size
        self.blocks = [keys, keys, hidden_size, hidden_size, heads, heads]
        self.weight_ih = nn.Parameter(torch.empty(sum(self.blocks), input_size))
        self.bias_ih = nn.Parameter(torch.empty(sum(self.blocks))) if bias else None
        self.padding = -hidden_size % heads

    @abstractmethod
    def computed(self, seen: Reading, state: State, sections: Tensor) -> tuple[Tensor, State]:
        """Compute a chunk of a sequence at once: the heads' readings, and the state after it.

        sections: the number of resets so far in each lane; elements of different sections do not
        see each other, and only section 0 sees the state.

        Shapes: seen with [T, B, ...]; sections [T, B]; result [T, B, N, P].
        """

    def read(self, x: Tensor) -> Reading:
        """Project the input. Shapes: [..., I]."""
        projected = F.linear(x, self.weight_ih, self.bias_ih).to(self.weight_ih.dtype)
        query, key, value, output, write, keep = torch.split(projected, self.blocks, -1)
        lanes, keys = x.shape[:-1], (self.heads, self.key_size)
        value = F.pad(self.activated(value), (0, self.padding)).view(*lanes, self.heads, -1)
        query, key = query.reshape(*lanes, *keys), key.reshape(*lanes, *keys)
        return Reading(query, key, value, torch.sigmoid(output), write, keep)

    def activated(self, value: Tensor) -> Tensor:
        """Return the values to be written. Shapes: [..., H]."""
        return value

    def revealed(self, output: Tensor, found: Tensor) -> Tensor:
        """Return h from the heads' readings. Shapes: [..., H], [..., N, P] -> [..., H]."""
        return output * found.flatten(-2)[..., : self.hidden_size]

    def gate_values(self, x: Tensor, state: State) -> tuple[Tensor, ...]:
        return (self.read(x).output,)

    def forward(
        self, x: Tensor, state: State, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        outputs = []
        with nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False):
            x = x.to(self.weight_ih.dtype)
            for start in range(0, len(x), CHUNK):
                part = x[start : start + CHUNK]
                sections = torch.zeros(part.shape[:2], dtype=torch.int64, device=x.device)
                if resets is not None:
                    sections = resets[start : start + CHUNK].cumsum(0)
                seen = self.read(part)
                found, state = self.computed(seen, state, sections)
                output = self.revealed(seen.output, found)
                outputs.append(output)
                state = (output[-1], *state[1:])
        return torch.cat(outputs), state

    @torch.no_grad()
    def reset_parameters(
        self, scheme: str, generator: torch.Generator, input_std: float | None = None
    ) -> None:
        """Fill every block of the weights. The heads' gates start at their biases: each forgets
        after another time, and writes little, since nothing bounds the sum in the memory."""
        if scheme == "uniform":
            super().reset_parameters(scheme, generator)
        else:
            for block in torch.split(self.weight_ih, self.blocks):
                fill_matrix_(block, "xavier" if scheme == "orthogonal" else scheme, generator)
            if self.bias_ih is not None:
                self.bias_ih.zero_()
        if input_std is not None:
            std = self.input_share * input_std
            nn.init.normal_(self.weight_ih, std=std, generator=generator)
        self.weight_ih[-2 * self.heads :] = 0
        if self.bias_ih is not None:
            write, keep = self.bias_ih[-2 * self.heads :].chunk(2)
            write.fill_(self.first_write)
            keep.copy_(self.forget_bias + torch.linspace(SHORTEST, LONGEST, self.heads))


def by_head(sequence: Tensor) -> Tensor:
    """Put lanes and heads before time. Shapes: [T, B, N, ...] -> [B, N, T, ...]."""
    return sequence.permute(1, 2, 0, *range(3, sequence.dim()))


def in_sequence(heads: Tensor) -> Tensor:
    """Move time to the front again. Shapes: [B, N, T, ...] -> [T, B, N, ...]."""
    return heads.permute(2, 0, 1, *range(3, heads.dim()))


def unseen(sections: Tensor) -> tuple[Tensor, Tensor]:
    """Return masks of the unseen: of the element s by the element t, and of the state by t.

    Shapes: sections [T, B]; [B, 1, T, T] and [B, 1, T].
    """
    lanes = sections.t()
    later = torch.ones(len(sections), len(sections), dtype=torch.bool, device=lanes.device).triu(1)
    apart = lanes.unsqueeze(-1) != lanes.unsqueeze(-2)
    return (apart | later).unsqueeze(1), (lanes > 0).unsqueeze(1)
