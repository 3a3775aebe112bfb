"""Mixture of predictors: the normalised product of their probabilities, each to a learned power.

The powers are learned while reading. A symbol is predicted with the powers learned from the symbols
before it; only after it has been read are they updated, along the gradient of its surprisal. So the
powers do not depend on the symbol that follows, and the probabilities sum to one.

Symbols: N positions, K predictors, V vocabulary size, n the order of the n-gram model.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.evaluation.surprisal import Predictor
from charlm.models.ngram import NGram
from charlm.text.symbols import SymbolSource

Reals = NDArray[np.float64]
Integers = NDArray[np.int64]

BLOCK = 16
"""Symbols read between two updates of the powers."""
RATE, DAMPING = 0.1, 0.01
"""Learning rate of Adagrad, and initial value of each sum of squares. On tinyshakespeare rates of
0.02 and 0.3 are worse by 0.004 and 0.001 nats."""
PROBABILITIES_AT_ONCE = 1 << 25
"""Probabilities held per predictor at a time: 128 MB."""


class Mixture:
    """A `Reader` of K models together.

        p(s) ~ prod_k p_k(s)^a_k
        a_k <- a_k - RATE g_k / sqrt(DAMPING + sum g_k^2);   g_k = E[ln p_k] - ln p_k(s)

    Each case of the n-gram model (the length of the context that it knows, see `NGram.cases`) has
    its own powers. A weighted sum of the probabilities is 0.014 nats worse on tinyshakespeare.

    networks: by name. ngram: if not None, it is the last of the K models and named "ngram".

    Source: Mahoney 2005 (adaptive weighing of context models, logistic mixing), for alphabets;
    Duchi et al. 2011 (Adagrad).
    """

    def __init__(
        self,
        networks: Mapping[str, Predictor],
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
        self,
        symbols: SymbolSource,
        start: int,
        stop: int,
        *,
        window: int = 0,
        advanced: Callable[[int], object] = lambda _: None,
    ) -> Tensor:
        result = torch.empty(stop - start)
        for begin, end, logs, cases in self._pieces(symbols, start, stop, window, advanced):
            targets = np.asarray(symbols[begin:end]).astype(np.int64)
            result[begin - start : end - start] = torch.from_numpy(
                self.combine(logs, cases, targets)
            )
        return result

    def distributions(
        self,
        symbols: SymbolSource,
        start: int,
        stop: int,
        *,
        window: int = 0,
        advanced: Callable[[int], object] = lambda _: None,
    ) -> Tensor:
        """Read in the same way; return ln p of every symbol at each position. See `Predictor`."""
        result = torch.empty(stop - start, self._vocabulary_size)
        for begin, end, logs, cases in self._pieces(symbols, start, stop, window, advanced):
            targets = np.asarray(symbols[begin:end]).astype(np.int64)
            self.combine(logs, cases, targets, result[begin - start : end - start])
        return result

    def _pieces(
        self,
        symbols: SymbolSource,
        start: int,
        stop: int,
        window: int,
        advanced: Callable[[int], object],
    ) -> Iterator[tuple[int, int, list[Tensor], Integers]]:
        """Yield pieces of a text that fit in memory, with each model's predictions."""
        step = max(1, PROBABILITIES_AT_ONCE // self._vocabulary_size)
        step = max(window, step // max(window, 1) * max(window, 1))  # whole windows
        begin, end = start, start
        while end < stop:
            begin, end = end, min(end + step + (end == 0), stop)  # the first has no context
            yield begin, end, *self._predictions(symbols, begin, end, window, advanced)

    def _predictions(
        self,
        symbols: SymbolSource,
        start: int,
        stop: int,
        window: int,
        advanced: Callable[[int], object],
    ) -> tuple[list[Tensor], Integers]:
        """Return ln p of every symbol by each model, and the cases. Shapes: [N, V] each; [N]."""
        logs = []
        for at, predict in enumerate(self._networks):
            report = advanced if at == 0 else _nothing
            logs.append(predict(symbols, start, stop, window=window, advanced=report))
        cases = np.zeros(stop - start, np.int64)
        if self._ngram is not None:
            ngram_logs, cases = ngram_distributions(self._ngram, symbols, start, stop, window)
            logs.append(ngram_logs)
        return logs, cases

    def combine(
        self,
        logs: list[Tensor],
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
            stacked = np.stack([one[block].numpy() for one in logs], axis=-1).astype(np.float64)
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


def ngram_distributions(
    model: NGram, symbols: SymbolSource, start: int, stop: int, window: int = 0
) -> tuple[Tensor, Integers]:
    """Return ln p of every symbol at each of the positions from `start` to `stop`, and its case.

    window: as for a network, the context then begins with the window. Shapes: [N, V], [N].
    """
    logs = torch.empty(stop - start, model.vocabulary_size)
    cases = np.empty(stop - start, np.int64)
    size = max(1, (PROBABILITIES_AT_ONCE >> 4) // model.vocabulary_size)
    for begin in range(start, stop, size):
        positions = np.arange(begin, min(begin + size, stop))
        contexts = _contexts(model, symbols, positions, max(start, 1), window)
        piece = slice(begin - start, begin - start + len(positions))
        logs[piece] = torch.from_numpy(np.log(model.distributions(contexts)))
        cases[piece] = model.cases(contexts)
    return logs, cases


def _contexts(
    model: NGram, symbols: SymbolSource, positions: Integers, first: int, window: int
) -> Integers:
    """Return the context of each position; in a window, only the symbols read there.

    Missing symbols are replaced by an index outside the vocabulary. Shapes: [N, n - 1].
    """
    back, outside = model.order - 1, model.vocabulary_size
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


def _nothing(_: int) -> None:
    """Ignore progress: the first model reports it."""
