"""The most probable symbols at every position of a text.

Symbols: N positions, V vocabulary size, K alternatives.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.evaluation.surprisal import ReadCallback, Reader, ignore, surprisals_from
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
    ) -> Tensor:
        nats = []
        for piece in stretch.pieces(LOGS_AT_ONCE // self.vocabulary_size, window):
            logs = self.predict(piece, window=window, advanced=advanced)
            nats.append(surprisals_from(logs, piece))
            self._record(logs)
        return torch.cat(nats)

    def _record(self, logs: Tensor) -> None:
        logs = logs[: max(0, self.most - self._recorded)]
        values, indices = logs.topk(min(ALTERNATIVES, self.vocabulary_size), dim=1)
        self._symbols.append(indices.numpy().astype(np.uint32))
        self._chances.append(values.exp().numpy())
        self._recorded += len(logs)

    def found(self) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
        """Return the symbols of each position, most probable first, and their probabilities.

        Shapes: [N, K] each.
        """
        return np.concatenate(self._symbols), np.concatenate(self._chances)
