"""Blocks: a residual stream, normalisation and feed-forward around any cell.

Symbols: T time, B lanes, I input size, H hidden size.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.cells import CELLS
from charlm.cells.base import Cell, State
from charlm.config.schema import ModelConfig

EPSILON = 1e-6
"""Added to the mean square of a norm."""
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda size: nn.Identity(),
    "layer": lambda size: nn.LayerNorm(size, EPSILON),
    "rms": lambda size: nn.RMSNorm(size, EPSILON),
}


class Block(Cell):
    """A layer that is a cell and its surroundings; its state is its output, then the cell's state.

        x <- W x                                       if residual, and x has not H elements
        y = x + cell(norm(x))                          not residual: y = cell(norm(x))
        y <- y + W_2 gelu(W_1 norm(y) + b_1) + b_2     if feed_forward: W_1 is [feed_forward * H, H]
        y <- norm(y)                                   the last layer only

    Dropout acts on the cell's output and on that of the feed-forward, not on the stream.

    elements: of the input, each of variance 1, whose squares add up to its own: 1 if it is one-hot.

    Source: Xiong et al. 2020 (arXiv 2002.04745), of norms before a layer; Zhang and Sennrich 2019
    (arXiv 1910.07467), RMSNorm; as in Feng et al. 2024 (arXiv 2410.01201) around minGRU.
    """

    def __init__(
        self, cell: Cell, input_size: int, elements: int, config: ModelConfig, *, is_last: bool
    ) -> None:
        super().__init__(input_size, cell.hidden_size)
        size, wide = cell.hidden_size, config.feed_forward * cell.hidden_size
        self.cell, self.elements, self.residual = cell, elements, config.residual
        norm = NORMS[config.normalization]
        self.enter = None
        if input_size != cell.input_size:
            self.enter = nn.Linear(input_size, size, bias=False)
        self.norm = norm(cell.input_size)
        self.is_wide = wide > 0
        if self.is_wide:
            self.middle = norm(size)
            self.inward, self.outward = nn.Linear(size, wide), nn.Linear(wide, size)
        self.last = norm(size) if is_last else None
        self.state_parts = ("output", *cell.state_parts)  # type: ignore[misc]
        self.letters = cell.letters  # type: ignore[misc]

    @property
    def variant(self) -> str:
        """Name of the equations: that of the cell, in a block."""
        return f"block_{self.cell.variant}"

    def initial_state(self, lanes: int) -> State:
        inner = self.cell.initial_state(lanes)
        return torch.zeros_like(inner[0]), *inner

    def gate_values(self, x: Tensor, state: State) -> tuple[Tensor, ...]:
        return self.cell.gate_values(self.norm(self.entered(x)), state[1:])

    def step(self, x: Tensor, state: State) -> State:
        x = self.entered(x)
        inner = self.cell.step(self.norm(x), state[1:])
        return self.left(x, inner[0]), *inner

    def hold(self, x: Tensor, before: State, after: State, unit: int, value: float) -> State:
        """Return the state with the memory of the cell's unit at `value`."""
        x = self.entered(x)
        inner = self.cell.hold(self.norm(x), before[1:], after[1:], unit, value)
        return self.left(x, inner[0]), *inner

    def forward(
        self,
        x: Tensor,
        state: State,
        resets: Tensor | None = None,
        dropped: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, State]:
        """Compute the outputs for a sequence and the state after it. dropped: dropout."""
        x = self.entered(x)
        h, inner = self.cell(self.norm(x), state[1:], resets)
        y = self.left(x, h, dropped)
        return y, (y[-1].to(state[0].dtype), *inner)

    def entered(self, x: Tensor) -> Tensor:
        """Return the input of the stream. Shapes: [..., I] -> [..., H], or unchanged."""
        return x if self.enter is None else self.enter(x)

    def left(
        self, x: Tensor, h: Tensor, dropped: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Return the block's output from its input, after `entered`, and the cell's output."""
        y = h if dropped is None else dropped(h)
        if self.residual:
            y = x + y
        if self.is_wide:
            more = self.outward(F.gelu(self.inward(self.middle(y))))
            y = y + (more if dropped is None else dropped(more))
        return y if self.last is None else self.last(y)

    @torch.no_grad()
    def reset_parameters(
        self, scheme: str, generator: torch.Generator, input_std: float | None = None
    ) -> None:
        """Fill the cell's parameters; the stream starts with variance 1, and the feed-forward adds
        nothing."""
        if self.enter is not None:
            std = 1 / math.sqrt(self.elements)
            nn.init.normal_(self.enter.weight, std=std, generator=generator)
        if input_std is not None and (self.enter is not None or self.has_norm):
            input_std *= math.sqrt(self.elements / self.cell.input_size)
        self.cell.reset_parameters(scheme, generator, input_std)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm | nn.RMSNorm):
                nn.init.ones_(module.weight)
                if isinstance(module, nn.LayerNorm):
                    nn.init.zeros_(module.bias)
        if self.is_wide:
            nn.init.kaiming_uniform_(self.inward.weight, nonlinearity="relu", generator=generator)
            for zero in (self.inward.bias, self.outward.weight, self.outward.bias):
                nn.init.zeros_(zero)

    @property
    def has_norm(self) -> bool:
        """True if the cell's input is normalised."""
        return not isinstance(self.norm, nn.Identity)


def make_layer(config: ModelConfig, input_size: int, elements: int, number: int) -> Cell:
    """Make the layer of a number: a cell, or a block around one. elements: see `Block`."""
    kind, size = CELLS[config.cell].load(), config.hidden_size
    options = {name: getattr(config, name) for name in kind.options}
    own = size if config.residual else input_size
    cell = kind(own, size, bias=config.bias, **options)
    if not config.has_blocks:
        return cell
    return Block(cell, input_size, elements, config, is_last=number == config.num_layers - 1)
