"""The most probable symbols at every position of a text.

Symbols: N positions, V vocabulary size, K alternatives.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.evaluation.surprisal import Predictor
from charlm.text.symbols import SymbolSource

ALTERNATIVES = 5
LOGS_AT_ONCE = 1 << 24
"""Log probabilities held at a time: 64 MB."""


@dataclass
class Alternatives:
    """A `Reader` by a predictor that records the most probable symbols of each position.

    most: number of positions recorded; later ones are only scored.
    """

    predict: Predictor
    vocabulary_size: int
    most: int
    _symbols: list[NDArray[np.uint32]] = field(default_factory=list)
    _chances: list[NDArray[np.float32]] = field(default_factory=list)
    _recorded: int = 0

    def __call__(
        self,
        symbols: SymbolSource,
        start: int,
        stop: int,
        *,
        window: int = 0,
        advanced: Callable[[int], object] = lambda _: None,
    ) -> Tensor:
        step = max(1, LOGS_AT_ONCE // self.vocabulary_size)
        step = max(window, step // max(window, 1) * max(window, 1))  # whole windows
        pieces, begin, end = [], start, start
        while end < stop:
            begin, end = end, min(end + step + (end == 0), stop)  # the first has no context
            logs = self.predict(symbols, begin, end, window=window, advanced=advanced)
            targets = torch.from_numpy(np.asarray(symbols[begin:end]).astype(np.int64))
            pieces.append(-logs.gather(1, targets.unsqueeze(1)).squeeze(1))
            self._record(logs)
        return torch.cat(pieces)

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
