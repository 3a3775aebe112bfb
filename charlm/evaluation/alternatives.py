"""The most probable symbols at every position of a text.

Symbols: N positions, V vocabulary size, K alternatives.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from charlm.evaluation.reading import Floats, ReadCallback, Reader, ignore, surprisals_from
from charlm.text.stretch import Stretch

ALTERNATIVES = 5
LOGS_AT_ONCE = 1 << 24
"""Log probabilities held at a time: 64 MB."""


@dataclass
class Alternatives:
    """A `Reader` of surprisals that records the most probable symbols of each position.

    predict: reader of distributions. most: number of positions recorded; later ones are only
    scored.
    """

    predict: Reader
    vocabulary_size: int
    most: int
    _symbols: list[NDArray[np.uint32]] = field(default_factory=list)
    _chances: list[NDArray[np.float32]] = field(default_factory=list)
    _recorded: int = 0

    def __call__(
        self, stretch: Stretch, *, window: int = 0, advanced: ReadCallback = ignore
    ) -> Floats:
        nats = []
        for piece in stretch.pieces(LOGS_AT_ONCE // self.vocabulary_size, window):
            logs = np.asarray(self.predict(piece, window=window, advanced=advanced))
            nats.append(surprisals_from(logs, piece))
            self._record(logs)
        return np.concatenate(nats)

    def _record(self, logs: Floats) -> None:
        left = logs[: max(0, self.most - self._recorded)].copy()
        K, rows = min(ALTERNATIVES, self.vocabulary_size), np.arange(len(left))
        symbols, chances = np.empty((len(left), K), np.uint32), np.empty((len(left), K), np.float32)
        for rank in range(K):
            best = left.argmax(1)
            symbols[:, rank], chances[:, rank] = best, np.exp(left[rows, best])
            left[rows, best] = -np.inf
        self._symbols.append(symbols)
        self._chances.append(chances)
        self._recorded += len(left)

    def found(self) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
        """Return the symbols of each position, most probable first, and their probabilities.

        Shapes: [N, K] each.
        """
        return np.concatenate(self._symbols), np.concatenate(self._chances)
