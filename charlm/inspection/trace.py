"""Traces of a model while it reads: every gate and every state, by the equations.

Symbols: T time, B lanes, V vocabulary size, H hidden size.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.cells.base import Cell, State
from charlm.common.progress import track
from charlm.models.recurrent import CharModel, States
from charlm.text.symbols import SymbolSource

Reals = NDArray[np.float32]


@dataclass(frozen=True)
class Trace:
    """Arrays by layer and name, over a text.

    characters: the text, one string per symbol. layers: the values in each layer, from the first,
    by the letter of the equations.

    Shapes: [T, H] each (a part of a state that is not a vector: [T, ...]).
    """

    characters: list[str]
    layers: list[dict[str, Reals]]

    def only(self, wanted: Sequence[str]) -> "Trace":
        """Return the trace with only some names."""
        return Trace(
            self.characters, [{k: v for k, v in one.items() if k in wanted} for one in self.layers]
        )


@dataclass(frozen=True)
class Table:
    """Values by row and column. rows, columns: their labels."""

    rows: list[str]
    columns: list[str]
    values: NDArray[Any]


def letters(cell: Cell) -> tuple[str, ...]:
    """Return the distinct names in the trace of a cell: gates, then parts of the state."""
    return tuple(dict.fromkeys([*cell.letters, *cell.state_parts]))


def look(cell: Cell, x: Tensor, state: State) -> tuple[dict[str, Tensor], State]:
    """Return every gate's value at one symbol, by letter, with the state after it.

    Shapes: x [B, I]; the state as from `Cell.initial_state`.
    """
    seen = dict(zip(cell.letters, cell.gate_values(x, state), strict=True))
    after = cell.step(x, state)
    return seen | dict(zip(cell.state_parts, after, strict=True)), after


@torch.inference_mode()
def walk(model: CharModel, symbols: Tensor, states: States) -> Iterator[list[dict[str, Tensor]]]:
    """Read symbols by the equations; after each, yield the gates and states of every layer.

    `states` is updated in place. Shapes: symbols [T, B] (int64), on the model's device; gates and
    states: [B, H] each.
    """
    pairs = zip(symbols, model.vectors(symbols), strict=True)
    for read, x in track(pairs, "reading", len(symbols)):
        inputs, layers = x, []
        states[:] = model.begin_anew(states, read)
        for number, cell in enumerate(model.layers()):
            seen, states[number] = look(cell, inputs, states[number])
            inputs = states[number][0]
            layers.append(seen)
        yield layers


def trace(model: CharModel, symbols: SymbolSource, characters: list[str]) -> Trace:
    """Read a text from the initial state; return every gate and state after each of its symbols.

    characters: the symbols as strings.
    """
    device = model.head.weight.device
    inputs = torch.from_numpy(np.asarray(symbols[:]).astype(np.int64)).unsqueeze(1).to(device)
    layers: list[dict[str, list[Tensor]]] = [
        {letter: [] for letter in letters(cell)} for cell in model.layers()
    ]
    for seen in walk(model, inputs, model.initial_states(1)):
        for rows, layer in zip(layers, seen, strict=True):
            for letter, value in layer.items():
                rows[letter].append(value[0])
    return Trace(characters, [{k: stacked(v) for k, v in one.items()} for one in layers])


def stacked(values: Sequence[Tensor]) -> Reals:
    """Join the values at all symbols into one array, on the CPU."""
    joined: Reals = torch.stack(list(values)).float().cpu().numpy()
    return joined


def as_lists(layers: Sequence[Mapping[str, Reals]]) -> list[dict[str, list[list[float]]]]:
    """Return arrays by layer as lists for JSON, rounded to four decimals."""
    return [
        {name: np.round(value.astype(np.float64), 4).tolist() for name, value in layer.items()}
        for layer in layers
    ]
