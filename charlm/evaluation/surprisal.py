"""Surprisal of every symbol of a text under a model.

There are two protocols. *Stateful*: the text is read from its start to its end. To be fast, it is
cut into lanes that are read in parallel, each after a warm-up on the text before it. *Windowed*:
each window of N symbols is read from the zero state, as in published results of transformers.
Numbers of the two are never compared.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from charlm.backends.choice import computation_of
from charlm.backends.step import Computation
from charlm.distributed.ranks import ALONE, Ranks
from charlm.evaluation.tally import Score, Tally
from charlm.models.recurrent import CharModel, States
from charlm.text.corpus import Corpus
from charlm.text.stretch import Stretch
from charlm.text.symbols import SymbolSource, refuse_out_of_bounds
from charlm.text.vocabulary import Symbols

LANES = 64
"""Lanes read in parallel: enough for the full rate of the matrix products on two cores."""
WARM_UP = 192
"""Symbols that a lane reads before it is scored. A longer warm-up changes the score of 2 layers of
512 units on tinyshakespeare by less than 0.0005 bits per character."""
LOGITS_AT_ONCE = 1 << 22

ReadCallback = Callable[[int], object]
"""Callback with the number of symbols read since the call before."""


def ignore(_: int) -> None:
    """Ignore the progress of reading."""


class Reader(Protocol):
    """A function that predicts the symbols of a stretch, given the text before it.

    It returns -ln p of each symbol, like `surprisals`, or ln p of every symbol at each position,
    like `log_distributions`. Arguments: as there.
    """

    def __call__(
        self, stretch: Stretch, *, window: int = 0, advanced: ReadCallback = ...
    ) -> Tensor: ...


def surprisals(
    computation: Computation,
    stretch: Stretch,
    *,
    window: int = 0,
    lanes: int = LANES,
    advanced: ReadCallback = ignore,
) -> Tensor:
    """Return -ln p of each symbol of a stretch, given the text before it, in float32.

    window: 0 reads statefully; N reads windows of N predictions, each from the zero state with
        one symbol of context. The very first symbol of a text has no context and is predicted
        uniformly. advanced: progress callback.

    Shapes: [N], on the CPU.
    """
    result = torch.full((len(stretch),), math.log(computation.model.vocabulary_size))
    _fill(result, computation, stretch, window, lanes, advanced)
    return result


def log_distributions(
    model: CharModel, stretch: Stretch, *, window: int = 0, advanced: ReadCallback = ignore
) -> Tensor:
    """Return ln p of every symbol at each position of a stretch.

    Arguments: as for `surprisals`. Shapes: [N, V], on the CPU.
    """
    V = model.vocabulary_size
    result = torch.full((len(stretch), V), -math.log(V))
    lanes = max(1, min(LANES, len(stretch) // (2 * WARM_UP)))  # less warm-up than text
    _fill(result, _Distributions(computation_of(model)), stretch, window, lanes, advanced)
    return result


def surprisals_from(logs: Tensor, stretch: Stretch) -> Tensor:
    """Return -ln p of each symbol of a stretch. logs: of every symbol, see `log_distributions`."""
    targets = torch.from_numpy(stretch.read().astype(np.int64))
    return -logs.gather(1, targets.unsqueeze(1)).squeeze(1)


class _Predicts(Protocol):
    """A computation that returns -ln p of each target, or in its place ln p of all symbols."""

    @property
    def model(self) -> CharModel: ...

    def surprisals(
        self, symbols: Tensor, targets: Tensor, states: States
    ) -> tuple[Tensor, States]: ...


@dataclass(frozen=True)
class _Distributions:
    """A computation that returns ln p of all symbols in place of surprisals. Shapes: [T, B, V]."""

    computation: Computation

    @property
    def model(self) -> CharModel:
        return self.computation.model

    def surprisals(self, symbols: Tensor, targets: Tensor, states: States) -> tuple[Tensor, States]:
        return self.computation.log_probabilities(symbols, states)


def _fill(
    result: Tensor,
    computation: _Predicts,
    stretch: Stretch,
    window: int,
    lanes: int,
    advanced: ReadCallback,
) -> None:
    """Fill `result` with the predictions of a stretch; an entry for the text's first symbol is left
    unchanged."""
    scored = stretch.with_context()
    out = result[scored.within(stretch)]
    if window:
        _windowed(computation, scored, out, window, advanced)
    elif len(out):
        _stateful(computation, scored, out, lanes, advanced)


def evaluate(
    computation: Computation,
    corpus: Corpus,
    name: str,
    *,
    window: int = 0,
    lanes: int = LANES,
    ranks: Ranks = ALONE,
) -> tuple[Tensor, Score]:
    """Return the surprisals of a split's symbols, in nats, and its score.

    The first symbol of the text, which has no context, is left out of both. name: "train",
    "validation" or "test". ranks: each rank reads its share of the lanes, statefully; its
    surprisals of other lanes are zero, its score is that of all lanes.
    """
    stretch = corpus.stretch(name).with_context()
    if ranks.size == 1:
        each = surprisals(computation, stretch, window=window, lanes=lanes)
    else:
        assert not window
        each = torch.zeros(len(stretch))
        if len(each):
            _stateful(computation, stretch, each, lanes, ignore, ranks)
    tally = Tally(corpus.vocabulary)
    tally.add_nats(ranks.sum(each.sum(dtype=torch.float64).item()), len(each))
    tally.add_split(corpus, name)
    return each, tally.score()


@torch.inference_mode()
def distributions(model: CharModel, symbols: Symbols) -> Tensor:
    """Predict the distribution after each symbol of a short text read from the zero state.

    Shapes: [len(symbols), V].
    """
    inputs = torch.from_numpy(symbols.astype(np.int64)).unsqueeze(1).to(model.head.weight.device)
    logits, _ = model(inputs, model.initial_states(1))
    chances: Tensor = logits.squeeze(1).float().softmax(-1).cpu()
    return chances


@torch.inference_mode()
def _stateful(
    computation: _Predicts,
    stretch: Stretch,
    out: Tensor,
    lanes: int,
    advanced: ReadCallback,
    ranks: Ranks = ALONE,
) -> None:
    """Fill `out` with surprisals of a stretch, for this rank's lanes, read in parallel."""
    first, count = stretch.start, len(stretch)
    lanes = max(1, min(lanes, count // WARM_UP))
    length = math.ceil(count / lanes)
    lanes = math.ceil(count / length)
    own = ranks.share(lanes)
    if not own:
        return
    begins = first + length * np.array(own)  # the first scored position of each lane
    states = computation.model.initial_states(len(own))
    cold = max(0, WARM_UP - (first - 1))  # missing symbols of the first lane's warm-up
    steps = _chunk(computation, lanes)
    for time in _cuts(-WARM_UP, length, steps, {0, cold - WARM_UP}):
        if cold and time.start == cold - WARM_UP and own.start == 0:
            _start_first_lane(states, computation.model.initial_states(1))
        positions = begins + np.arange(time.start, time.stop)[:, None]  # of the targets, [T, B]
        losses, states = _read(computation, stretch.symbols, positions, states)
        if time.start < 0:
            continue
        losses = losses.cpu()
        for column, lane in enumerate(own):
            at = lane * length + time.start
            piece = out[at : min(at + len(time), (lane + 1) * length, count)]
            piece.copy_(losses[: len(piece), column])
        advanced(losses.shape[0] * losses.shape[1])


@torch.inference_mode()
def _windowed(
    computation: _Predicts, stretch: Stretch, out: Tensor, window: int, advanced: ReadCallback
) -> None:
    """Fill `out` with surprisals of a stretch, read window by window."""
    for piece in stretch.pieces(LOGITS_AT_ONCE // computation.model.vocabulary_size, window):
        begins = np.arange(piece.start, piece.stop, window)
        positions = begins + np.arange(min(window, len(piece)))[:, None]
        states = computation.model.initial_states(len(begins))
        losses, _ = _read(computation, stretch.symbols, positions, states)
        out[piece.within(stretch)] = losses.transpose(0, 1).flatten(0, 1)[: len(piece)].cpu()
        advanced(len(piece))


def _read(
    computation: _Predicts, symbols: SymbolSource, positions: np.ndarray, states: States
) -> tuple[Tensor, States]:
    """Compute the surprisals of the symbols at `positions`, from the symbols before them."""
    before, targets = (_take(computation, symbols, at) for at in (positions - 1, positions))
    return computation.surprisals(before, targets, states)


def _take(computation: _Predicts, symbols: SymbolSource, positions: np.ndarray) -> Tensor:
    """Return the symbols at positions, clipped to the text: those outside are not scored."""
    values = symbols[positions.clip(0, len(symbols) - 1)]
    refuse_out_of_bounds(values, computation.model.vocabulary_size)
    values = values.astype(np.int64)
    return torch.from_numpy(values).to(computation.model.head.weight.device)


def _chunk(computation: _Predicts, lanes: int) -> int:
    return max(1, min(128, LOGITS_AT_ONCE // (lanes * computation.model.vocabulary_size)))


def _cuts(begin: int, end: int, step: int, forced: set[int]) -> list[range]:
    """Cut [begin, end) into ranges of at most `step`, and at every forced position inside."""
    result = []
    while begin < end:
        stop = min([begin + step, end, *(place for place in forced if place > begin)])
        result.append(range(begin, stop))
        begin = stop
    return result


def _start_first_lane(states: States, initial: States) -> None:
    """Set the first lane to the initial state, as at the start of a text."""
    for state, start in zip(states, initial, strict=True):
        for part, fresh in zip(state, start, strict=True):
            part[0] = fresh[0]
