"""`CharModel`: embedding -> stacked cells -> head. State goes in and comes out."""

import math
from collections.abc import Iterator
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.backends.cuda_graph import Replay
from charlm.backends.device import to_device
from charlm.cells import CELLS, Cell, State
from charlm.config.schema import ModelConfig
from charlm.errors import CheckpointError
from charlm.native.interface import Kernels
from charlm.native.stack import Stack

States = list[State]
"""One `State` a layer."""


class CharModel(nn.Module):
    """Predicts the next symbol from the symbols so far.

    Symbols: T time, B lanes, V vocabulary size, E embedding size, H hidden size.
    """

    def __init__(self, config: ModelConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config, self.vocabulary_size = config, vocabulary_size
        cell = CELLS[config.cell]
        options = {name: getattr(config, name) for name in cell.options}
        one_hot = config.embedding_size == 0
        self.embedding = None if one_hot else nn.Embedding(vocabulary_size, config.embedding_size)
        sizes = [vocabulary_size if one_hot else config.embedding_size]
        sizes += [config.hidden_size] * (config.num_layers - 1)
        self.cells = nn.ModuleList(
            cell(size, config.hidden_size, bias=config.bias, **options) for size in sizes
        )
        self.head = nn.Linear(config.hidden_size, vocabulary_size)
        self.kernels: Kernels | None = None
        """What computes `learn` and `surprisals` on a CPU in place of torch, if anything does."""
        self._native: Stack | None = None
        self.replays = False
        """Whether torch's path of `learn` is recorded and replayed; for windows of one shape, on
        an NVIDIA GPU."""
        self._replay = Replay()

    @classmethod
    def from_weights(
        cls, config: ModelConfig, vocabulary_size: int, weights: dict[str, Tensor]
    ) -> "CharModel":
        """The model that weights belong to; nothing is allocated before their shapes fit.

        Raises: CheckpointError where names, shapes or types are not those of the configuration.
        """
        with torch.device("meta"):
            model = cls(config, vocabulary_size)
        expected = {name: (p.shape, p.dtype) for name, p in model.state_dict().items()}
        found = {name: (w.shape, w.dtype) for name, w in weights.items()}
        if expected != found:
            wrong = sorted(
                name for name in {*expected, *found} if expected.get(name) != found.get(name)
            )
            raise CheckpointError(
                f"the weights do not fit the configuration: {wrong[0]} is {found.get(wrong[0])}, "
                f"expected {expected.get(wrong[0])}",
                "use the checkpoint that charlm wrote",
            )
        model.load_state_dict(weights, assign=True)
        return model.requires_grad_(False)

    @torch.no_grad()
    def reset_parameters(self, seed: int) -> None:
        """The initial weights of a seed (drawn on the CPU, so alike on every device)."""
        generator = torch.Generator().manual_seed(seed)
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, generator=generator)
        for cell in self.layers():
            cell.reset_parameters(self.config.initialization, generator)
        bound = 1 / math.sqrt(self.config.hidden_size)
        nn.init.uniform_(self.head.weight, -bound, bound, generator=generator)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, symbols: Tensor, states: States, *, dropout_seed: int | None = None
    ) -> tuple[Tensor, States]:
        """The logits of every symbol's successor, and the states after the last one.

        dropout_seed: drops outputs of every layer (between layers and before the head); None, as
            in evaluation: nothing is dropped.

        Shapes: symbols [T, B] (int64); logits [T, B, V].
        """
        outputs, after = self._outputs(symbols, states, self._masks(dropout_seed, symbols))
        return self.head(outputs), after

    def learn(
        self, symbols: Tensor, targets: Tensor, states: States, *, dropout_seed: int | None = None
    ) -> tuple[Tensor, States]:
        """The mean of -ln p(target), with its gradient in every parameter's `grad`, and the states
        after the window, cut from the graph.

        The gradients are to be used and dropped before the next call, as `AdamW.step` does.

        Shapes: symbols and targets [T, B] (int64); else as `forward`.
        """
        if self.kernels is not None:
            mask = None
            if dropout_seed is not None and self.config.dropout > 0:
                mask = partial(self._draws, dropout_seed)
            return self._stack().learn(symbols, targets, states, mask)
        parts = [part for state in states for part in state]
        given = [symbols, targets, *parts, *self._masks(dropout_seed, symbols)]
        loss, *rest = self._replay(self._learn, given) if self.replays else self._learn(given)
        parameters = list(self.parameters())
        for parameter, gradient in zip(parameters, rest[-len(parameters) :], strict=True):
            parameter.grad = gradient
        after = self._states(rest)
        if not self.replays:
            return loss, after
        return loss.clone(), [tuple(part.clone() for part in state) for state in after]

    def _learn(self, given: list[Tensor]) -> list[Tensor]:
        """Of symbols, targets, the parts of the states and the masks: the loss, the parts of the
        states after, and the gradients. Tensors only, as `Replay` wants them."""
        symbols, targets, *rest = given
        states = self._states(rest)
        outputs, after = self._outputs(symbols, states, rest[sum(map(len, states)) :])
        logits = self.head(outputs).float().flatten(0, 1)
        loss = F.cross_entropy(logits, targets.flatten())
        with torch.autocast(loss.device.type, enabled=False):
            gradients = torch.autograd.grad(loss, list(self.parameters()))
        parts = [part.detach() for state in after for part in state]
        return [loss.detach(), *parts, *_apart(gradients)]

    def _states(self, parts: list[Tensor]) -> States:
        """The states of all layers, whose parts are first in a list."""
        left = iter(parts)
        return [tuple(next(left) for _ in cell.state_parts) for cell in self.layers()]

    @torch.no_grad()
    def surprisals(self, symbols: Tensor, targets: Tensor, states: States) -> tuple[Tensor, States]:
        """-ln p of every target, and the states after them. Shapes: as `learn`, result [T, B]."""
        if self.kernels is not None:
            return self._stack().surprisals(symbols, targets, states)
        outputs, after = self._outputs(symbols, states, [])
        logits = self.head(outputs).float().flatten(0, 1)
        losses = F.cross_entropy(logits, targets.flatten(), reduction="none")
        return losses.view(targets.shape), after

    def _outputs(
        self, symbols: Tensor, states: States, masks: list[Tensor]
    ) -> tuple[Tensor, States]:
        """What the head reads, [T, B, H], and the states after it; by torch."""
        x = self.vectors(symbols)
        after: States = []
        for layer, (cell, state) in enumerate(zip(self.layers(), states, strict=True)):
            x, state = cell(x, state)
            after.append(state)
            if masks:
                x = (x * masks[layer].to(x.dtype)) * (256 / (256 - self._threshold()))
        return x, after

    def _masks(self, seed: int | None, symbols: Tensor) -> list[Tensor]:
        """Which outputs of every layer are kept, [T, B, H]; none where all are."""
        if seed is None or not self.config.dropout:
            return []
        shape, device = (*symbols.shape, self.config.hidden_size), symbols.device
        draws = (self._draws(seed, layer, shape) for layer in range(self.config.num_layers))
        return [to_device(bytes_, device) >= threshold for bytes_, threshold in draws]

    def _stack(self) -> Stack:
        """The model as the kernels compute it; made once, for the parameters stay in place."""
        if self._native is None:
            assert self.kernels is not None
            self._native = Stack(self.kernels, self.embedding, self.layers(), self.head)
        return self._native

    def vectors(self, symbols: Tensor) -> Tensor:
        """What the first cell reads: embeddings or one-hot. Shapes: [...] -> [..., E or V]."""
        if self.embedding is not None:
            return F.embedding(symbols, self.embedding.weight)
        return F.one_hot(symbols, self.vocabulary_size).to(self.head.weight.dtype)

    def initial_states(self, lanes: int) -> States:
        return [cell.initial_state(lanes) for cell in self.layers()]

    def _draws(self, seed: int, layer: int, shape: tuple[int, ...]) -> tuple[Tensor, int]:
        """Dropout of a layer's outputs: random bytes, and the first of them that keeps its element.

        Drawn on the CPU, so that they are alike on every device and in every engine; the share is
        `dropout` rounded to 1/256. Drawing a number an element took a tenth of the step.
        """
        count = math.prod(shape)
        generator = torch.Generator().manual_seed(seed + layer)
        words = torch.empty((count + 7) // 8, dtype=torch.int64)
        draws = words.random_(-(2**63), None, generator=generator).view(torch.uint8)
        return draws[:count].view(shape), self._threshold()

    def _threshold(self) -> int:
        """The first byte that keeps its element."""
        return round(self.config.dropout * 256)

    def layers(self) -> list[Cell]:
        """The cells, first layer first."""
        return cast("list[Cell]", list(self.cells))

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def recurrent_parameters(self) -> int:
        """The number of weights and biases in the cells."""
        return sum(parameter.numel() for parameter in self.cells.parameters())


def _apart(gradients: tuple[Tensor, ...]) -> Iterator[Tensor]:
    """Each in memory of its own: autograd gives two biases that are added the same gradient, and
    what clips one in place would clip the other."""
    seen = set()
    for gradient in gradients:
        yield gradient.clone() if gradient.data_ptr() in seen else gradient
        seen.add(gradient.data_ptr())
