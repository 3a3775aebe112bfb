"""Surprisal of every symbol of a text under any model. Importing this does not import torch.

There are two protocols. *Stateful*: the text is read from its start to its end. To be fast, it is
cut into lanes that are read in parallel, each after a warm-up on the text before it. *Windowed*:
each window of N symbols is read from the zero state, as in published results of transformers.
Numbers of the two are never compared.

Symbols: N positions, T time, B lanes, V vocabulary size.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from charlm.text.stretch import Stretch
from charlm.text.symbols import SymbolSource, refuse_out_of_bounds

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

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
    like `log_distributions`, on the CPU. Arguments: as there.
    """

    def __call__(
        self, stretch: Stretch, *, window: int = 0, advanced: ReadCallback = ...
    ) -> "Tensor | Floats": ...


class Lanes(Protocol):
    """Lanes of a text that a model reads side by side, with a state for each."""

    def read(self, symbols: Integers, targets: Integers | None) -> Floats:
        """Read symbols; return -ln p of each target, [T, B], or if it is None, ln p of every next
        symbol, [T, B, V]. Shapes: symbols and targets [T, B]."""
        ...

    def restart(self) -> None:
        """Set the first lane to the initial state, as at the start of a text."""
        ...


class Network(Protocol):
    """A model that reads lanes."""

    @property
    def vocabulary_size(self) -> int: ...

    def lanes(self, count: int) -> Lanes:
        """Return lanes in the initial state."""
        ...


def surprisals(
    network: Network,
    stretch: Stretch,
    *,
    window: int = 0,
    lanes: int = LANES,
    advanced: ReadCallback = ignore,
) -> Floats:
    """Return -ln p of each symbol of a stretch, given the text before it, in float32.

    window: 0 reads statefully; N reads windows of N predictions, each from the zero state with
        one symbol of context. The very first symbol of a text has no context and is predicted
        uniformly. advanced: progress callback.

    Shapes: [N].
    """
    result = np.full(len(stretch), math.log(network.vocabulary_size), np.float32)
    _fill(result, network, stretch, window, lanes, advanced)
    return result


def log_distributions(
    network: Network, stretch: Stretch, *, window: int = 0, advanced: ReadCallback = ignore
) -> Floats:
    """Return ln p of every symbol at each position of a stretch.

    Arguments: as for `surprisals`. Shapes: [N, V].
    """
    V = network.vocabulary_size
    result = np.full((len(stretch), V), -math.log(V), np.float32)
    lanes = max(1, min(LANES, len(stretch) // (2 * WARM_UP)))  # less warm-up than text
    _fill(result, network, stretch, window, lanes, advanced)
    return result


def surprisals_from(logs: NDArray[Any], stretch: Stretch) -> NDArray[Any]:
    """Return -ln p of each symbol of a stretch. logs: of every symbol, see `log_distributions`."""
    chosen: NDArray[Any] = -logs[np.arange(len(stretch)), stretch.read()]
    return chosen


def _fill(
    result: Floats,
    network: Network,
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
        _windowed(network, scored, out, window, advanced)
    else:
        fill_statefully(network, scored, out, lanes, advanced)


def fill_statefully(
    network: Network,
    stretch: Stretch,
    out: Floats,
    lanes: int = LANES,
    advanced: ReadCallback = ignore,
    share: Callable[[int], range] = range,
) -> None:
    """Fill `out` with the predictions of a stretch, whose symbols all have context.

    share: returns those of a number of lanes that are read here.
    """
    first, count = stretch.start, len(stretch)
    if not count:
        return
    lanes = max(1, min(lanes, count // WARM_UP))
    length = math.ceil(count / lanes)
    lanes = math.ceil(count / length)
    own = share(lanes)
    if not own:
        return
    begins = first + length * np.array(own)  # the first scored position of each lane
    reading = network.lanes(len(own))
    cold = max(0, WARM_UP - (first - 1))  # missing symbols of the first lane's warm-up
    steps = max(1, min(128, LOGITS_AT_ONCE // (lanes * network.vocabulary_size)))
    for time in _cuts(-WARM_UP, length, steps, {0, cold - WARM_UP}):
        if cold and time.start == cold - WARM_UP and own.start == 0:
            reading.restart()
        positions = begins + np.arange(time.start, time.stop)[:, None]  # of the targets, [T, B]
        found = _read(network, reading, stretch.symbols, positions, out)
        if time.start < 0:
            continue
        for column, lane in enumerate(own):
            at = lane * length + time.start
            piece = out[at : min(at + len(time), (lane + 1) * length, count)]
            piece[:] = found[: len(piece), column]
        advanced(found.shape[0] * found.shape[1])


def _windowed(
    network: Network, stretch: Stretch, out: Floats, window: int, advanced: ReadCallback
) -> None:
    """Fill `out` with the predictions of a stretch, read window by window."""
    for piece in stretch.pieces(LOGITS_AT_ONCE // network.vocabulary_size, window):
        begins = np.arange(piece.start, piece.stop, window)
        positions = begins + np.arange(min(window, len(piece)))[:, None]
        found = _read(network, network.lanes(len(begins)), stretch.symbols, positions, out)
        rows = found.swapaxes(0, 1).reshape(-1, *found.shape[2:])
        out[piece.within(stretch)] = rows[: len(piece)]
        advanced(len(piece))


def _read(
    network: Network, lanes: Lanes, symbols: SymbolSource, positions: Integers, out: Floats
) -> Floats:
    """Predict the symbols at `positions`, from the symbols before them: one of each, or all if
    `out` has a column for every symbol."""
    before, targets = (_take(network, symbols, at) for at in (positions - 1, positions))
    return lanes.read(before, targets if out.ndim == 1 else None)


def _take(network: Network, symbols: SymbolSource, positions: Integers) -> Integers:
    """Return the symbols at positions, clipped to the text: those outside are not scored."""
    values = symbols[positions.clip(0, len(symbols) - 1)]
    refuse_out_of_bounds(values, network.vocabulary_size)
    taken: Integers = values.astype(np.int64)
    return taken


def _cuts(begin: int, end: int, step: int, forced: set[int]) -> list[range]:
    """Cut [begin, end) into ranges of at most `step`, and at every forced position inside."""
    result = []
    while begin < end:
        stop = min([begin + step, end, *(place for place in forced if place > begin)])
        result.append(range(begin, stop))
        begin = stop
    return result
