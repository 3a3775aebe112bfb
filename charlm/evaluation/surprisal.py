"""How well a model predicts a text: surprisal of every symbol, summed, divided once.

Two protocols, never mixed. *Stateful*: the text is read from its start to its end; it is cut into
lanes that are read in parallel, each warmed up on the text before it. *Windowed*: every window of
N symbols starts from the zero state, as published numbers of transformers are measured.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from charlm.models.recurrent import CharModel, States
from charlm.text.vocabulary import Symbols

LANES = 64
"""Lanes read in parallel: enough for the full rate of the matrix products on two cores."""
WARM_UP = 192
"""Symbols that a lane reads before it counts: past this, 2 layers of 512 units on tinyshakespeare
change by less than 0.0005 bits a character."""
LOGITS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Score:
    """The surprisal of a text, kept as sums so that every ratio is formed once.

    Units: `nats` in all; `symbols`, `characters` (of the source text) and `bytes` (in UTF-8).
    """

    nats: float
    symbols: int
    characters: int
    bytes: int

    @property
    def loss(self) -> float:
        """Nats a symbol."""
        return self.nats / self.symbols

    @property
    def bits_per_character(self) -> float:
        return self.nats / math.log(2) / self.characters

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.bytes

    @property
    def perplexity(self) -> float:
        """Per symbol."""
        return math.exp(min(self.loss, 700.0))


def surprisals(
    model: CharModel,
    symbols: Symbols,
    start: int,
    stop: int,
    *,
    window: int = 0,
    lanes: int = LANES,
) -> Tensor:
    """-ln p of each of `symbols[start:stop]`, given what stands before it, in float32.

    window: 0 reads statefully; N reads windows of N predictions, each from the zero state with
        one symbol of context. The very first symbol of a text has nothing before it and is
        predicted uniformly.

    Shapes: [stop - start], on the CPU.
    """
    result = torch.full((stop - start,), math.log(model.vocabulary_size))
    first = max(start, 1)  # the first symbol that can be predicted
    if first >= stop:
        return result
    counted = result[first - start :]
    if window:
        _windowed(model, symbols, first, counted, window)
    else:
        _stateful(model, symbols, first, counted, lanes)
    return result


def evaluate(
    model: CharModel,
    symbols: Symbols,
    start: int,
    stop: int,
    *,
    characters: int,
    bytes: int,
    window: int = 0,
    lanes: int = LANES,
) -> Score:
    """The score of `symbols[start:stop]`, which are `characters` and `bytes` of source text."""
    each = surprisals(model, symbols, start, stop, window=window, lanes=lanes)
    return Score(total(each), stop - start, characters, bytes)


def total(surprisals: Tensor) -> float:
    """Their sum, in float64."""
    return surprisals.sum(dtype=torch.float64).item()


@torch.inference_mode()
def distributions(model: CharModel, symbols: Symbols) -> Tensor:
    """The predicted distribution after each symbol of a short text read from the zero state.

    Shapes: [len(symbols), V].
    """
    given = torch.from_numpy(symbols.astype(np.int64)).unsqueeze(1).to(model.head.weight.device)
    logits, _ = model(given, model.initial_states(1))
    chances: Tensor = logits.squeeze(1).float().softmax(-1).cpu()
    return chances


@torch.inference_mode()
def _stateful(model: CharModel, symbols: Symbols, first: int, out: Tensor, lanes: int) -> None:
    """Fill `out` with the surprisals of `symbols[first:]`, lane by lane in parallel."""
    count = len(out)
    lanes = max(1, min(lanes, count // WARM_UP))
    length = math.ceil(count / lanes)
    lanes = math.ceil(count / length)
    begins = first + length * np.arange(lanes)  # where each lane begins to count
    states = model.initial_states(lanes)
    cold = max(0, WARM_UP - (first - 1))  # how much of the first lane's warm-up does not exist
    steps = _chunk(model, lanes)
    for time in _cuts(-WARM_UP, length, steps, {0, cold - WARM_UP}):
        if cold and time.start == cold - WARM_UP:
            states = _with_zero_lane(states)
        positions = begins + np.arange(time.start, time.stop)[:, None]  # of the targets, [T, B]
        losses, states = _read(model, symbols, positions, states)
        if time.start < 0:
            continue
        losses = losses.cpu()
        for lane in range(lanes):
            at = lane * length + time.start
            piece = out[at : min(at + len(time), (lane + 1) * length, count)]
            piece.copy_(losses[: len(piece), lane])


@torch.inference_mode()
def _windowed(model: CharModel, symbols: Symbols, first: int, out: Tensor, window: int) -> None:
    count = len(out)
    at_once = max(1, LOGITS_AT_ONCE // (window * model.vocabulary_size))
    begins = np.arange(0, count, window)
    for group in np.split(begins, range(at_once, len(begins), at_once)):
        length = min(window, count - int(group[0]))
        positions = first + group + np.arange(length)[:, None]
        losses, _ = _read(model, symbols, positions, model.initial_states(len(group)))
        flat = losses.t().flatten().cpu()
        begin = int(group[0])
        piece = out[begin : begin + flat.numel()]
        piece.copy_(flat[: len(piece)])


def _read(
    model: CharModel, symbols: Symbols, positions: np.ndarray, states: States
) -> tuple[Tensor, States]:
    """The surprisals of the symbols at `positions`, from the symbols before them."""
    before, targets = (_take(model, symbols, at) for at in (positions - 1, positions))
    return model.surprisals(before, targets, states)


def _take(model: CharModel, symbols: Symbols, positions: np.ndarray) -> Tensor:
    """The symbols at positions (clipped to the text: what lies outside is not counted)."""
    values = symbols[positions.clip(0, len(symbols) - 1)].astype(np.int64)
    return torch.from_numpy(values).to(model.head.weight.device)


def _chunk(model: CharModel, lanes: int) -> int:
    return max(1, min(128, LOGITS_AT_ONCE // (lanes * model.vocabulary_size)))


def _cuts(begin: int, end: int, step: int, forced: set[int]) -> list[range]:
    """[begin, end) in ranges of at most `step`, with a cut at every forced place inside."""
    result = []
    while begin < end:
        stop = min([begin + step, end, *(place for place in forced if place > begin)])
        result.append(range(begin, stop))
        begin = stop
    return result


def _with_zero_lane(states: States) -> States:
    """The states with the first lane at zero, as at the start of a text."""
    for state in states:
        for part in state:
            part[0] = 0
    return states
