"""Mixture of predictors: the normalised product of their probabilities, each to a learned power.

The powers are learned while reading. A symbol is predicted with the powers learned from the symbols
before it; only after it has been read are they updated, along the gradient of its surprisal. So the
powers do not depend on the symbol that follows, and the probabilities sum to one.

Symbols: N positions, K predictors, V vocabulary size, n the order of the n-gram model.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.evaluation.reading import Floats, Integers, ReadCallback, Reader, ignore
from charlm.models.ngram import NGram
from charlm.text.stretch import Stretch

Reals = NDArray[np.float64]

BLOCK = 16
"""Symbols read between two updates of the powers."""
RATE, DAMPING = 0.1, 0.01
"""Learning rate of Adagrad, and initial value of each sum of squares. On tinyshakespeare rates of
0.02 and 0.3 are worse by 0.004 and 0.001 nats."""
PROBABILITIES_AT_ONCE = 1 << 25
"""Probabilities held per predictor at a time: 128 MB."""


class Mixture:
    """A `Reader` of surprisals by K models together.

        p(s) ~ prod_k p_k(s)^a_k
        a_k <- a_k - RATE g_k / sqrt(DAMPING + sum g_k^2);   g_k = E[ln p_k] - ln p_k(s)

    Each case of the n-gram model (the length of the context that it knows, see `NGram.cases`) has
    its own powers. A weighted sum of the probabilities is 0.014 nats worse on tinyshakespeare.

    networks: readers of distributions, by name. ngram: if not None, it is the last of the K models
    and named "ngram".

    Source: Mahoney 2005 (adaptive weighing of context models, logistic mixing), for alphabets;
    Duchi et al. 2011 (Adagrad).
    """

    def __init__(
        self,
        networks: Mapping[str, Reader],
        vocabulary_size: int,
        ngram: NGram | None = None,
    ) -> None:
        self.names = [*networks, *(["ngram"] if ngram else [])]
        self._networks, self._ngram = list(networks.values()), ngram
        self._vocabulary_size = vocabulary_size
        shape = (ngram.case_count if ngram else 1, len(self.names))
        self.powers: Reals = np.full(shape, 1 / len(self.names))
        """Powers by case. Shapes: [cases, K]."""
        self._squares = np.full(shape, DAMPING)
        self._sums, self._count = np.zeros(len(self.names)), 0

    def __call__(
        self, stretch: Stretch, *, window: int = 0, advanced: ReadCallback = ignore
    ) -> Tensor:
        result = torch.empty(len(stretch))
        for place, logs, cases, targets in self._pieces(stretch, window, advanced):
            result[place] = torch.from_numpy(self.combine(logs, cases, targets))
        return result

    def distributions(
        self, stretch: Stretch, *, window: int = 0, advanced: ReadCallback = ignore
    ) -> Tensor:
        """Read in the same way; return ln p of every symbol at each position. See `Reader`."""
        result = torch.empty(len(stretch), self._vocabulary_size)
        for place, logs, cases, targets in self._pieces(stretch, window, advanced):
            self.combine(logs, cases, targets, result[place])
        return result

    def _pieces(
        self, stretch: Stretch, window: int, advanced: ReadCallback
    ) -> Iterator[tuple[slice, list[Tensor | Floats], Integers, Integers]]:
        """Yield pieces of a stretch that fit in memory: their place, ln p of every symbol by each
        model, the cases and the symbols. Shapes: [N, V] each; [N]; [N]."""
        for piece in stretch.pieces(PROBABILITIES_AT_ONCE // self._vocabulary_size, window):
            logs = [
                predict(piece, window=window, advanced=ignore if at else advanced)
                for at, predict in enumerate(self._networks)
            ]
            cases = np.zeros(len(piece), np.int64)
            if self._ngram is not None:
                ngram_logs, cases = ngram_distributions(self._ngram, piece, window)
                logs.append(ngram_logs)
            yield piece.within(stretch), logs, cases, piece.read().astype(np.int64)

    def combine(
        self,
        logs: Sequence[Tensor | Floats],
        cases: Integers,
        targets: Integers,
        out: Tensor | None = None,
    ) -> Reals:
        """Return the surprisals of the mixture, and update the powers.

        out: filled with ln p of every symbol, if it is not None.

        Shapes: logs and out [N, V] each, ln p; cases and targets [N]; the result [N].
        """
        result = np.empty(len(targets))
        for begin in range(0, len(targets), BLOCK):
            block = slice(begin, begin + BLOCK)
            stacked = np.stack([np.asarray(one[block]) for one in logs], axis=-1).astype(np.float64)
            case, target = cases[block], targets[block]
            powers = self.powers[case]
            mixed = np.einsum("nvk,nk->nv", stacked, powers)
            mixed -= mixed.max(axis=1, keepdims=True)
            chances = np.exp(mixed)
            sums = chances.sum(axis=1)
            rows = np.arange(len(target))
            result[block] = np.log(sums) - mixed[rows, target]
            if out is not None:
                out[block] = torch.from_numpy(mixed - np.log(sums)[:, None])
            expected = np.einsum("nv,nvk->nk", chances / sums[:, None], stacked)
            gradient = expected - stacked[rows, target]
            np.add.at(self._squares, case, gradient**2)
            np.add.at(self.powers, case, -RATE * gradient / np.sqrt(self._squares[case]))
            self._sums += powers.sum(axis=0)
        self._count += len(targets)
        return result

    def mean_powers(self) -> dict[str, float]:
        """Return the mean power of each predictor so far, by its name."""
        means = self._sums / self._count if self._count else self.powers.mean(axis=0)
        return dict(zip(self.names, means.tolist(), strict=True))


def ngram_distributions(model: NGram, stretch: Stretch, window: int = 0) -> tuple[Tensor, Integers]:
    """Return ln p of every symbol at each position of a stretch, and the position's case.

    window: as for a network, the context then begins with the window. Shapes: [N, V], [N].
    """
    logs = torch.empty(len(stretch), model.vocabulary_size)
    cases = np.empty(len(stretch), np.int64)
    for piece in stretch.pieces((PROBABILITIES_AT_ONCE >> 4) // model.vocabulary_size, window):
        contexts, place = _contexts(model, piece, window), piece.within(stretch)
        logs[place] = torch.from_numpy(np.log(model.distributions(contexts)))
        cases[place] = model.cases(contexts)
    return logs, cases


def _contexts(model: NGram, stretch: Stretch, window: int) -> Integers:
    """Return the context of each position; in a window, only the symbols read there.

    Missing symbols are replaced by an index outside the vocabulary. Shapes: [N, n - 1].
    """
    back, outside = model.order - 1, model.vocabulary_size
    if not back:
        return np.empty((len(stretch), 0), np.int64)
    low, last = max(0, stretch.start - back), stretch.stop - 1
    text = np.full(last - low + back, outside, np.int64)
    text[back:] = stretch.symbols[low:last]
    rows = np.lib.stride_tricks.sliding_window_view(text, back)[stretch.start - low :]
    if not window:
        return rows
    known = (np.arange(stretch.start, stretch.stop) - max(stretch.start, 1)) % window + 1
    return np.where(np.arange(back, 0, -1) <= known[:, None], rows, outside)
