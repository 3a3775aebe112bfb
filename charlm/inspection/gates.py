"""Gates and states of a model while it reads: their values, their saturation, their order.

Symbols: T time, H hidden size.
"""

from dataclasses import dataclass

import numpy as np
import torch

from charlm.common.errors import UsageError
from charlm.inspection.excerpt import Excerpt, characters
from charlm.inspection.inputs import refuse_length
from charlm.inspection.trace import Reals, Trace, trace, walk
from charlm.models.recurrent import CharModel
from charlm.text.display import named
from charlm.text.stretch import Stretch
from charlm.text.vocabulary import Symbols, Vocabulary

SHUT, OPEN = 0.1, 0.9
"""A sigmoid gate below or above is saturated to the left or right.
Source: Karpathy, Johnson and Fei-Fei 2015, section 4.2."""
LANES, STEPS = 32, 128
"""Size of the text that saturation is measured on, after a warm-up of the same length."""


@dataclass(frozen=True)
class Saturation:
    """The shares of the time in which each unit's gate is shut and open. Shapes: [H] each."""

    layer: int
    gate: str
    shut: Reals
    open: Reals


def gates_of(model: CharModel, vocabulary: Vocabulary, text: str) -> Trace:
    """Return every gate and state of each layer over a text, read from the initial state.

    Raises: UsageError for an empty or too long text.
    """
    symbols = known_symbols(vocabulary, text)
    return trace(model, symbols, characters(vocabulary, symbols))


def known_symbols(vocabulary: Vocabulary, text: str) -> Symbols:
    """Return the symbols of a text to be drawn.

    Raises: UsageError for an empty or too long text, or characters without a symbol.
    """
    refuse_length(text)
    if not vocabulary.has_unknown and (unknown := vocabulary.unknown_in(text)):
        raise UsageError(f"the model does not know {named(unknown)}", "leave them out of the text")
    return vocabulary.encode(text)


def saturation(model: CharModel, excerpt: Excerpt) -> list[Saturation]:
    """Measure the shares of the time in which the sigmoid gates are shut and open, on validation
    text; return an empty list for a cell without such gates."""
    gates = [sigmoid_gates(cell.letters) for cell in model.layers()]
    if not any(gates):
        return []
    lanes = max(1, min(LANES, len(excerpt) // (2 * STEPS)))
    symbols = lanes_of(excerpt, lanes, 2 * STEPS)
    device = model.head.weight.device
    shut: dict[tuple[int, str], torch.Tensor] = {}
    opened: dict[tuple[int, str], torch.Tensor] = {}
    counted = 0
    states = model.initial_states(lanes)
    for step, seen in enumerate(walk(model, symbols.to(device), states)):
        if step < len(symbols) // 2:
            continue
        counted += lanes
        for layer, own in enumerate(gates):
            for gate in own:
                value = seen[layer][gate]
                at = layer, gate
                shut[at] = shut.get(at, 0) + (value < SHUT).sum(0)
                opened[at] = opened.get(at, 0) + (value > OPEN).sum(0)
    return [Saturation(*at, _share(shut[at], counted), _share(opened[at], counted)) for at in shut]


def sigmoid_gates(cell_letters: tuple[str, ...]) -> list[str]:
    """Return the names of the sigmoid gates: all but the candidates, which are tanh."""
    return [letter for letter in cell_letters if letter in ("i", "f", "o", "r", "z")]


def lanes_of(stretch: Stretch, lanes: int, steps: int) -> torch.Tensor:
    """Return parts of `steps` symbols, spread evenly over a stretch. Shapes: [T, B], int64."""
    steps = min(steps, len(stretch))
    begins = np.linspace(stretch.start, stretch.stop - steps, lanes).astype(np.int64)
    places = begins + np.arange(steps)[:, None]
    return torch.from_numpy(stretch.symbols[places].astype(np.int64))


def ordered(values: Reals) -> np.ndarray:
    """Return an order of units in which similar ones are adjacent.

    They are sorted by their angle in the plane of the two strongest patterns over time, so that
    units of opposite sign are half a turn apart. Shapes: values [T, H]; the order [H].
    """
    centred = values.astype(np.float64) - values.mean(0)
    if min(centred.shape) < 2:
        return np.arange(values.shape[1])
    _, strengths, patterns = np.linalg.svd(centred, full_matrices=False)
    plane = patterns[:2] * strengths[:2, None]
    angles = np.arctan2(plane[1], plane[0])
    turn = np.sort(angles)
    gaps = np.diff(turn, append=turn[0] + 2 * np.pi)
    cut = turn[(int(gaps.argmax()) + 1) % len(turn)]  # begin after the widest gap
    return np.argsort((angles - cut) % (2 * np.pi), kind="stable")


def _share(counts: torch.Tensor, of: int) -> Reals:
    shares: Reals = (counts.cpu().double() / of).float().numpy()
    return shares
