"""An interpolated n-gram model, the baseline for networks.

Symbols: V vocabulary size, N positions, n the order (a symbol and the n - 1 symbols before it).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from charlm.text.stretch import Stretch
from charlm.text.vocabulary import Symbols

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]

HIGHEST_ORDER = 8
OFTEN = np.array([2, 4, 16, 64])
"""Bounds between the cases of contexts, by their number of occurrences in the text."""
NEVER = -1
"""The number of a gram that does not occur in the text."""


class NGram:
    """Modified Kneser-Ney smoothing, interpolated over all orders down to the uniform one.

        p_n(w | c) = (max(a(cw) - D(a(cw)), 0) + sum_v D(a(cv)) * p_{n-1}(w | c')) / sum_v a(cv)

    c' is the context c without its oldest symbol; p_0 = 1/V. The counts a are raw counts at the
    highest order and, below it, numbers of distinct symbols seen before the gram. The discounts
    D(1), D(2), D(3+) are estimated for each order. For contexts never seen, p_n = p_{n-1}.

    Source: Chen and Goodman 1999, equation 16 and section 2.7.
    """

    def __init__(self, counted: Sequence["GramCounts"], vocabulary_size: int) -> None:
        self.counted, self.vocabulary_size = counted, vocabulary_size
        self.order = len(counted)
        self._grams = [level.grams for level in counted]
        self._raw: list[_Level] = []
        self._continued: list[_Level] = []
        context_count = 1
        for level, longer in zip(counted, [*counted[1:], None], strict=True):
            self._raw.append(_Level(level.counts, level.contexts, context_count))
            if longer is not None:
                size = len(level.grams)
                before = np.bincount(longer.grams % size, minlength=size)
                self._continued.append(_Level(before, level.contexts, context_count))
            context_count = len(level.grams)

    @classmethod
    def of(cls, symbols: Symbols, vocabulary_size: int, order: int = HIGHEST_ORDER) -> "NGram":
        """Count the grams of a text, up to `order` symbols long (or as long as the text)."""
        text = symbols.astype(np.int64)
        numbers = text  # the numbers of the grams that end at each position
        contexts = np.zeros(len(text), np.int64)
        counted: list[GramCounts] = []
        for length in range(1, max(1, min(order, len(symbols))) + 1):
            keys = numbers
            if length > 1:
                keys = text[: len(numbers) - 1] * len(counted[-1].grams) + numbers[1:]
                contexts = numbers[:-1]
            grams, places, inverse, counts = np.unique(
                keys, return_index=True, return_inverse=True, return_counts=True
            )
            counted.append(GramCounts(grams, contexts[places], counts))
            numbers = inverse
        return cls(counted, vocabulary_size)

    def gram_count(self, order: int) -> int:
        """Return the number of distinct grams in a model of that order."""
        return sum(map(len, self._grams[:order]))

    def probabilities(self, contexts: Symbols, symbols: Symbols) -> list[Reals]:
        """Return p of each symbol after its context, by the models of order 1, 2, ... `order`.

        Shapes: contexts [N, order - 1], oldest first; symbols [N]; each result [N].
        """
        before = contexts.astype(np.int64)
        whole = np.concatenate([before, symbols.astype(np.int64)[:, None]], axis=1)
        grams = self._numbers(whole)
        known = [np.zeros(len(whole), np.int64), *self._numbers(before)]
        lower = np.full(len(whole), 1 / self.vocabulary_size)
        result = []
        for level, raw in enumerate(self._raw):
            result.append(raw.blend(grams[level], known[level], lower))
            if level < len(self._continued):
                lower = self._continued[level].blend(grams[level], known[level], lower)
        return result

    def distributions(self, contexts: Symbols) -> Reals:
        """Return p of every symbol after each context, by the model of the highest order.

        Shapes: contexts [N, order - 1], oldest first; result [N, V].
        """
        known = [np.zeros(len(contexts), np.int64), *self._numbers(contexts.astype(np.int64))]
        result = np.full((len(contexts), self.vocabulary_size), 1 / self.vocabulary_size)
        for level, raw in enumerate(self._raw):
            counts = raw if level == self.order - 1 else self._continued[level]
            counts.blend_all(known[level], self._last[level], result)
        return result

    @cached_property
    def _last(self) -> list[Integers]:
        """The last symbol of each gram, by length."""
        result = [self._grams[0]]
        for grams in self._grams[1:]:
            result.append(result[-1][grams % len(result[-1])])
        return result

    def cases(self, contexts: Symbols) -> Integers:
        """Return the case of each context, a number below `case_count`: by the length of its suffix
        that occurs in the text, and how often. Shapes: contexts [N, order - 1]; result [N]."""
        length, count = self._matches(contexts)
        cases: Integers = length * (len(OFTEN) + 1) + np.searchsorted(OFTEN, count, side="right")
        return cases

    @property
    def case_count(self) -> int:
        return self.order * (len(OFTEN) + 1)

    def _matches(self, contexts: Symbols) -> tuple[Integers, Integers]:
        """Return the length of each context's longest suffix that occurs in the text before another
        symbol, and its number of occurrences. Shapes: as for `cases`."""
        known = self._numbers(contexts.astype(np.int64))
        length = np.zeros(len(contexts), np.int64)
        count = np.full(len(contexts), int(self._raw[0].totals[0]), np.int64)
        for at, (numbers, level) in enumerate(zip(known, self._raw[1:], strict=True), start=1):
            totals = np.where(numbers == NEVER, 0, level.totals[numbers]).astype(np.int64)
            length, count = np.where(totals > 0, at, length), np.where(totals > 0, totals, count)
        return length, count

    def bits(self, stretch: Stretch) -> list[float]:
        """Return the total bits of a stretch, by order: 1, 2, ... `order`.

        The symbols before it serve as context; the text counts as preceded by symbol 0.
        """
        before = self.order - 1
        read = np.asarray(stretch.symbols[max(0, stretch.start - before) : stretch.stop])
        text = np.concatenate([np.zeros(before, read.dtype), read])
        windows = np.lib.stride_tricks.sliding_window_view(text, before + 1)[-len(stretch) :]
        chances = self.probabilities(windows[:, :before], windows[:, before])
        return [float(-np.log2(p).sum()) for p in chances]

    def _numbers(self, text: Integers) -> list[Integers]:
        """Return the numbers of the grams that end each row, by length. Shapes: [N, length]."""
        result: list[Integers] = []
        for length in range(1, text.shape[1] + 1):
            keys, shorter = text[:, -length], np.zeros(len(text), np.int64)
            if length > 1:
                shorter = result[-1]
                keys = keys * len(self._grams[length - 2]) + shorter
            grams = self._grams[length - 1]
            at = np.searchsorted(grams, keys).clip(0, len(grams) - 1)
            result.append(np.where((grams[at] == keys) & (shorter != NEVER), at, NEVER))
        return result


@dataclass(frozen=True)
class GramCounts:
    """The grams of one length in a text.

    grams: sorted; a gram's number is its index here. Each is its first symbol times the number of
    grams one symbol shorter, plus the number of the rest. contexts: the number of each gram without
    its last symbol. counts: occurrences of each.
    """

    grams: Integers
    contexts: Integers
    counts: Integers


class _Level:
    """The counts of all grams of one order, and the weights that their contexts give to the order
    below.

    Shapes: counts and contexts [grams]; a context is a number below `context_count`.
    """

    def __init__(self, counts: Integers, contexts: Integers, context_count: int) -> None:
        discounts = _discounts(counts)[np.minimum(counts, 3)]
        self._contexts = contexts
        self.discounted = counts - discounts
        self.totals = np.bincount(contexts, counts, context_count)
        self.taken = np.bincount(contexts, discounts, context_count)

    def blend(self, grams: Integers, contexts: Integers, lower: Reals) -> Reals:
        """Compute p_n from p_{n-1}. Shapes: [N] each."""
        discounted = np.where(grams == NEVER, 0.0, self.discounted[grams])
        totals = np.where(contexts == NEVER, 0.0, self.totals[contexts])
        mixed = (discounted + self.taken[contexts] * lower) / np.maximum(totals, 1.0)
        return np.where(totals > 0, mixed, lower)

    def blend_all(self, contexts: Integers, last: Integers, chances: Reals) -> None:
        """Turn p_{n-1} of every symbol into p_n, in place.

        last: the last symbol of each gram. Shapes: contexts [N]; chances [N, V].
        """
        known = (contexts != NEVER) & (self.totals[contexts] > 0)
        rows, numbers = np.flatnonzero(known), contexts[known]
        totals = self.totals[numbers]
        chances[rows] *= (self.taken[numbers] / totals)[:, None]
        counts = self._ends[numbers] - self._ends[numbers - 1] * (numbers > 0)
        # The grams of a context are contiguous in `_by_context`: list those of every row.
        begins = np.repeat(self._ends[numbers] - np.cumsum(counts), counts)
        grams = self._by_context[begins + np.arange(counts.sum())]
        chances[np.repeat(rows, counts), last[grams]] += self.discounted[grams] / np.repeat(
            totals, counts
        )

    @cached_property
    def _by_context(self) -> Integers:
        """The grams in the order of their contexts."""
        return np.argsort(self._contexts, kind="stable")

    @cached_property
    def _ends(self) -> Integers:
        """The end of each context's grams in `_by_context`."""
        return np.cumsum(np.bincount(self._contexts, minlength=len(self.totals)))


def _discounts(counts: Integers) -> Reals:
    """Return the discounts of counts of 0, 1, 2 and 3 or more.

    For a text too small to estimate them, they are half of every count up to 3.

    Source: Chen and Goodman 1999, equation 17.
    """
    n1, n2, n3, n4 = (int((counts == k).sum()) for k in (1, 2, 3, 4))
    if min(n1, n2, n3) == 0:
        return np.array([0, 0.5, 1.0, 1.5])
    y = n1 / (n1 + 2 * n2)
    estimates = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
    return np.array([0.0, *(min(max(d, 0.05), k) for k, d in enumerate(estimates, start=1))])
