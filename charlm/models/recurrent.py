"""The recurrent network: embedding -> stacked cells -> head, with explicit states."""

import math
from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.cells.base import Cell, ProjectedCell, State
from charlm.common.errors import CheckpointError
from charlm.config.schema import ModelConfig
from charlm.models.block import Block, make_layer
from charlm.models.dropout import drop

States = list[State]
"""One `State` per layer."""


class _Embedding(nn.Embedding):
    """An embedding whose weights are drawn by `CharModel.reset_parameters` only."""

    def reset_parameters(self) -> None:
        """Do nothing: drawing on the meta device imports torch's compiler, which takes seconds."""


class _Linear(nn.Linear):
    """A linear layer whose weights are drawn by `CharModel.reset_parameters` only."""

    def reset_parameters(self) -> None:
        """Do nothing; see `_Embedding`."""


class CharModel(nn.Module):
    """A network that predicts the next symbol from the symbols so far.

    end: the symbol with which a record ends, if the text has records: the states are reset before
    it is read, so that a record does not depend on earlier ones.

    Symbols: T time, B lanes, V vocabulary size, E embedding size, H hidden size.
    """

    def __init__(self, config: ModelConfig, vocabulary_size: int, end: int | None = None) -> None:
        super().__init__()
        self.config, self.vocabulary_size, self.end = config, vocabulary_size, end
        one_hot = config.embedding_size == 0
        self.embedding = None if one_hot else _Embedding(vocabulary_size, config.embedding_size)
        sizes = [vocabulary_size if one_hot else config.embedding_size]
        sizes += [config.hidden_size] * (config.num_layers - 1)
        self.cells = nn.ModuleList(
            make_layer(config, size, 1 if one_hot and not number else size, number)
            for number, size in enumerate(sizes)
        )
        self.head = _Linear(config.hidden_size, vocabulary_size)

    @classmethod
    def from_weights(
        cls,
        config: ModelConfig,
        vocabulary_size: int,
        weights: dict[str, Tensor],
        end: int | None = None,
    ) -> "CharModel":
        """Build a model from weights; their shapes are checked before anything is allocated.

        Raises: CheckpointError if names, shapes or types do not match the configuration.
        """
        with torch.device("meta"):
            model = cls(config, vocabulary_size, end)
        expected = {name: (p.shape, p.dtype) for name, p in model.state_dict().items()}
        actual = {name: (w.shape, w.dtype) for name, w in weights.items()}
        if expected != actual:
            wrong = sorted(
                name for name in {*expected, *actual} if expected.get(name) != actual.get(name)
            )
            raise CheckpointError(
                f"the weights do not fit the configuration: {wrong[0]} is {actual.get(wrong[0])}, "
                f"expected {expected.get(wrong[0])}",
                "use the checkpoint that charlm wrote",
            )
        model.load_state_dict(weights, assign=True)
        return model.requires_grad_(False)

    @torch.no_grad()
    def reset_parameters(self, seed: int) -> None:
        """Draw the initial weights of a seed (on the CPU, so that they are the same on any device).

        The input's share of every gate, W_ih x, starts with the standard deviation `input_scale`:
        an embedding's E elements have a variance of 1 each, of a one-hot vector a single element
        is 1. For upper layers a variance of 1 is assumed, which their inputs do not reach.
        """
        generator = torch.Generator().manual_seed(seed)
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, generator=generator)
        scale = self.config.input_scale
        for number, cell in enumerate(self.layers()):
            one_hot = number == 0 and self.embedding is None
            size = 1 if one_hot else cell.input_size
            std = scale / math.sqrt(size) if scale else None
            cell.reset_parameters(self.config.initialization, generator, std)
        bound = 1 / math.sqrt(self.config.hidden_size)
        nn.init.uniform_(self.head.weight, -bound, bound, generator=generator)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, symbols: Tensor, states: States, masks: Sequence[Tensor] = ()
    ) -> tuple[Tensor, States]:
        """Compute the logits of every symbol's successor, and the states after the last one.

        masks: dropout masks of the layers' outputs, [T, B, H] each, True keeps; empty: no dropout.

        Shapes: symbols [T, B] (int64); logits [T, B, V].
        """
        outputs, after = self.outputs(symbols, states, masks)
        return self.head(outputs), after

    def outputs(
        self, symbols: Tensor, states: States, masks: Sequence[Tensor] = ()
    ) -> tuple[Tensor, States]:
        """Compute the head's input, [T, B, H], and the states after it. Arguments: `forward`."""
        x = self.vectors(symbols)
        resets = None if self.end is None else symbols == self.end
        after: States = []
        for layer, (cell, state) in enumerate(zip(self.layers(), states, strict=True)):
            dropped = None
            if masks:
                dropped = partial(drop, mask=masks[layer], rate=self.config.dropout)
            if isinstance(cell, Block):
                x, state = cell(x, state, resets, dropped)
            else:
                x, state = cell(x, state, resets)
                x = x if dropped is None else dropped(x)
            after.append(state)
        return x, after

    def vectors(self, symbols: Tensor) -> Tensor:
        """Return the first cell's input, embeddings or one-hot. Shapes: [...] -> [..., E|V]."""
        if self.embedding is not None:
            return F.embedding(symbols, self.embedding.weight)
        return F.one_hot(symbols, self.vocabulary_size).to(self.head.weight.dtype)

    def initial_states(self, lanes: int) -> States:
        """Return the states before any text, of every layer."""
        return [cell.initial_state(lanes) for cell in self.layers()]

    def begin_anew(self, states: States, symbols: Tensor) -> States:
        """Return the states before symbols, one in every lane, [B], are read: reset to the initial
        ones where a record ends."""
        if self.end is None:
            return states
        pairs = zip(self.layers(), states, strict=True)
        return [cell.begin_anew(state, symbols == self.end) for cell, state in pairs]

    def layers(self) -> list[Cell]:
        """List the cells, from the first layer."""
        return cast("list[Cell]", list(self.cells))

    def projected_layers(self) -> list[ProjectedCell]:
        """List the cells if all have gate blocks, as the native kernels need; otherwise none."""
        cells = self.layers()
        found = [cell for cell in cells if isinstance(cell, ProjectedCell)]
        return found if len(found) == len(cells) else []

    def dropped_matrices(self) -> dict[str, nn.Parameter]:
        """Return every layer's W_hh, which `weight_dropout` drops elements of, by its name."""
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if name.endswith("weight_hh") and parameter.dim() == 2
        }

    def parameter_count(self) -> int:
        """Count weights and biases."""
        return sum(parameter.numel() for parameter in self.parameters())

    def recurrent_parameters(self) -> int:
        """Count the weights and biases in the cells."""
        return sum(parameter.numel() for parameter in self.cells.parameters())
