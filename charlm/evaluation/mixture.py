"""Several predictors read as one: their probabilities averaged, by weights learned from the past.

The weight of a predictor is how often it was right so far where the case was alike. Nothing is
fitted to what is still to be read: the weights with which a symbol is predicted come from the
symbols before it. So they are the same for every symbol that might follow, and what is averaged
sums to one.

Symbols: N positions, K predictors, n the order of the n-gram model.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.evaluation.surprisal import Reader
from charlm.models.ngram import NGram
from charlm.text.symbols import SymbolSource
from charlm.text.vocabulary import Symbols

Reals = NDArray[np.float64]
Integers = NDArray[np.int64]

BLOCK = 16
"""Symbols that are read between two updates of the weights."""
PRIOR = 1.0
"""What each predictor has been right, in every case, before anything is read."""
POSITIONS = 1 << 17
"""That the n-gram model looks up at a time."""


class NGramReader:
    """Reads a text by an n-gram model, whose only state are the symbols before. See `Reader`."""

    def __init__(self, model: NGram) -> None:
        self._model = model

    def __call__(
        self,
        symbols: SymbolSource,
        start: int,
        stop: int,
        *,
        window: int = 0,
        advanced: Callable[[int], object] = lambda _: None,
    ) -> Tensor:
        return self.read(symbols, start, stop, window)[0]

    def read(
        self, symbols: SymbolSource, start: int, stop: int, window: int = 0
    ) -> tuple[Tensor, Integers]:
        """Return the surprisal of each of `symbols[start:stop]`, and the case of what stands before
        it (see `NGram.cases`). Shapes: [N]."""
        found, cases = [], []
        for begin in range(start, stop, POSITIONS):
            positions = np.arange(begin, min(begin + POSITIONS, stop))
            contexts = self._contexts(symbols, positions, max(start, 1), window)
            read = np.asarray(symbols[begin : begin + len(positions)])
            chances = self._model.probabilities(contexts, read)
            found.append(-np.log(chances[-1]))
            cases.append(self._model.cases(contexts))
        return torch.from_numpy(np.concatenate(found)), np.concatenate(cases)

    def _contexts(
        self, symbols: SymbolSource, positions: Integers, first: int, window: int
    ) -> Symbols:
        """Take what stands before each position; in a window, not more than has been read there.

        Where nothing stands, a symbol does that the text cannot hold. Shapes: [N, n - 1].
        """
        back, outside = self._model.order - 1, self._model.vocabulary_size
        low = max(0, int(positions[0]) - back)
        text = np.full(int(positions[-1]) - low + back, outside, np.int64)
        text[back:] = symbols[low : int(positions[-1])]
        if not back:
            return np.empty((len(positions), 0), np.int64)
        rows = np.lib.stride_tricks.sliding_window_view(text, back)[positions - low]
        if not window:
            return rows
        known = (positions - first) % window + 1
        return np.where(np.arange(back, 0, -1) <= known[:, None], rows, outside)


class Mixture:
    """Averages the probabilities of K readers, one after another called on one text. See `Reader`.

        p(s) = sum_k w_k p_k(s);   w_k = right_k / sum_j right_j
        right_k <- right_k + w_k p_k(s) / p(s)         after s has been read

    `right` is kept apart for every case of the n-gram model, where there is one.

    Source: online expectation maximisation of mixture weights, Jelinek and Mercer 1980 (the
    weights of interpolated models, by case), Cappe and Moulines 2009 (arXiv 0712.4273).
    """

    def __init__(self, networks: Sequence[tuple[str, Reader]], ngram: NGram | None = None) -> None:
        self.names = [name for name, _ in networks] + (["ngram"] if ngram else [])
        self._networks = [reader for _, reader in networks]
        self._ngram = NGramReader(ngram) if ngram else None
        self._right = np.full((ngram.case_count if ngram else 1, len(self.names)), PRIOR)
        self._sums, self._count = np.zeros(len(self.names)), 0

    def __call__(
        self,
        symbols: SymbolSource,
        start: int,
        stop: int,
        *,
        window: int = 0,
        advanced: Callable[[int], object] = lambda _: None,
    ) -> Tensor:
        if start == stop:
            return torch.empty(0)
        each = [
            reader(symbols, start, stop, window=window, advanced=advanced if at == 0 else _nothing)
            for at, reader in enumerate(self._networks)
        ]
        cases = np.zeros(stop - start, np.int64)
        if self._ngram is not None:
            found, cases = self._ngram.read(symbols, start, stop, window)
            each.append(found)
        costs = torch.stack([one.double() for one in each], dim=-1).numpy()
        return torch.from_numpy(self.average(costs, cases)).float()

    def average(self, costs: Reals, cases: Integers) -> Reals:
        """Return the surprisals of the mixture, and learn the weights on the way.

        Shapes: costs [N, K], surprisals; cases [N]; the result [N].
        """
        result = np.empty(len(costs))
        least = costs.min(axis=1)
        chances = np.exp(least[:, None] - costs)  # of the best 1, so that nothing underflows
        for begin in range(0, len(costs), BLOCK):
            block = slice(begin, begin + BLOCK)
            right = self._right[cases[block]]
            weights = right / right.sum(axis=1, keepdims=True)
            shares = weights * chances[block]
            sums = shares.sum(axis=1)
            result[block] = least[block] - np.log(sums)
            np.add.at(self._right, cases[block], shares / sums[:, None])
            self._sums += weights.sum(axis=0)
        self._count += len(costs)
        return result

    def weights(self) -> Reals:
        """Return the weights that come next. Shapes: [cases, K]; the rows sum to one."""
        weights: Reals = self._right / self._right.sum(axis=1, keepdims=True)
        return weights

    def mean_weights(self) -> dict[str, float]:
        """Return the mean weight that each predictor has had so far, by its name."""
        shares = self._sums / self._count if self._count else self.weights().mean(axis=0)
        return dict(zip(self.names, shares.tolist(), strict=True))


def _nothing(_: int) -> None:
    """Count nothing: the first reader tells how far the reading is."""
