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
from charlm.evaluation.tally import Score, Tally, opening_size
from charlm.models.recurrent import CharModel, States
from charlm.text.batches import refuse_out_of_bounds
from charlm.text.splits import Split
from charlm.text.symbols import SymbolSource
from charlm.text.vocabulary import Symbols, Vocabulary

LANES = 64
"""Lanes read in parallel: enough for the full rate of the matrix products on two cores."""
WARM_UP = 192
"""Symbols that a lane reads before it is scored. A longer warm-up changes the score of 2 layers of
512 units on tinyshakespeare by less than 0.0005 bits per character."""
LOGITS_AT_ONCE = 1 << 22


class Reader(Protocol):
    """A function that returns -ln p of each of `symbols[start:stop]`, given the text before it.

    Arguments and shapes: as for `surprisals`.
    """

    def __call__(
        self,
        symbols: SymbolSource,
        start: int,
        stop: int,
        *,
        window: int = 0,
        advanced: Callable[[int], object] = ...,
    ) -> Tensor: ...


class Predictor(Protocol):
    """A function that returns ln p of every symbol at each position, like `log_distributions`."""

    def __call__(
        self,
        symbols: SymbolSource,
        start: int,
        stop: int,
        *,
        window: int = 0,
        advanced: Callable[[int], object] = ...,
    ) -> Tensor: ...


def surprisals(
    computation: Computation,
    symbols: SymbolSource,
    start: int,
    stop: int,
    *,
    window: int = 0,
    lanes: int = LANES,
    advanced: Callable[[int], object] = lambda _: None,
) -> Tensor:
    """Return -ln p of each of `symbols[start:stop]`, given the text before it, in float32.

    window: 0 reads statefully; N reads windows of N predictions, each from the zero state with
        one symbol of context. The very first symbol of a text has no context and is predicted
        uniformly. advanced: called with the number of symbols read so far.

    Shapes: [stop - start], on the CPU.
    """
    result = torch.full((stop - start,), math.log(computation.model.vocabulary_size))
    _fill(result, computation, symbols, start, window, lanes, advanced)
    return result


def log_distributions(
    model: CharModel,
    symbols: SymbolSource,
    start: int,
    stop: int,
    *,
    window: int = 0,
    advanced: Callable[[int], object] = lambda _: None,
) -> Tensor:
    """Return ln p of every symbol at each of the positions from `start` to `stop`.

    Arguments: as for `surprisals`. Shapes: [stop - start, V], on the CPU.
    """
    V = model.vocabulary_size
    result = torch.full((stop - start, V), -math.log(V))
    lanes = max(1, min(LANES, (stop - start) // (2 * WARM_UP)))  # less warm-up than text
    _fill(result, _Distributions(computation_of(model)), symbols, start, window, lanes, advanced)
    return result


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
    symbols: SymbolSource,
    start: int,
    window: int,
    lanes: int,
    advanced: Callable[[int], object],
) -> None:
    """Fill `result` with the predictions from `start` on; an entry for the text's first symbol is
    left unchanged."""
    first = max(start, 1)  # the first symbol with a context
    counted = result[first - start :]
    if not len(counted):
        return
    if window:
        _windowed(computation, symbols, first, counted, window, advanced)
    else:
        _stateful(computation, symbols, first, counted, lanes, advanced)


def evaluate(
    computation: Computation,
    symbols: SymbolSource,
    *,
    vocabulary: Vocabulary,
    split: Split,
    window: int = 0,
    lanes: int = LANES,
    ranks: Ranks = ALONE,
) -> tuple[Tensor, Score]:
    """Return the surprisals of a split's symbols, in nats, and its score.

    The first symbol of the text, which has no context, is left out of both. ranks: each rank reads
    its share of the lanes, statefully; its surprisals of other lanes are zero, its score is that of
    all lanes.
    """
    first = 1 if split.start == 0 else 0
    start = split.start + first
    if ranks.size == 1:
        each = surprisals(computation, symbols, start, split.stop, window=window, lanes=lanes)
    else:
        assert not window
        each = torch.zeros(split.stop - start)
        if len(each):
            _stateful(computation, symbols, start, each, lanes, lambda _: None, ranks)
    characters, size = opening_size(vocabulary, symbols) if first else (0, 0)
    tally = Tally(vocabulary)
    tally.add_nats(ranks.sum(each.sum(dtype=torch.float64).item()), len(each))
    tally.add_text(split.characters - characters, split.bytes - size, sum(split.unknown.values()))
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
    symbols: SymbolSource,
    first: int,
    out: Tensor,
    lanes: int,
    advanced: Callable[[int], object],
    ranks: Ranks = ALONE,
) -> None:
    """Fill `out` with surprisals of `symbols[first:]`, for this rank's lanes, read in parallel."""
    count = len(out)
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
        losses, states = _read(computation, symbols, positions, states)
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
    computation: _Predicts,
    symbols: SymbolSource,
    first: int,
    out: Tensor,
    window: int,
    advanced: Callable[[int], object],
) -> None:
    count = len(out)
    chunk_size = max(1, LOGITS_AT_ONCE // (window * computation.model.vocabulary_size))
    begins = np.arange(0, count, window)
    for group in np.split(begins, range(chunk_size, len(begins), chunk_size)):
        length = min(window, count - int(group[0]))
        positions = first + group + np.arange(length)[:, None]
        losses, _ = _read(
            computation, symbols, positions, computation.model.initial_states(len(group))
        )
        flat = losses.transpose(0, 1).flatten(0, 1).cpu()
        begin = int(group[0])
        piece = out[begin : begin + len(flat)]
        piece.copy_(flat[: len(piece)])
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
