"""Symbols counted as a text streams by: what a vocabulary is made from."""

import unicodedata
from collections.abc import Sequence

import numpy as np

from charlm.text.vocabulary import CODE_POINTS, Codes


class SymbolCounter:
    """Counts symbols as a text streams by, and remembers their order of first appearance."""

    def __init__(self) -> None:
        self.counts = np.zeros(CODE_POINTS, np.int64)
        self.order: list[int] = []

    def add(self, codes: Codes) -> None:
        new = codes[self.counts[codes] == 0]
        if new.size:
            first = np.zeros(CODE_POINTS, np.int64)
            first[new[::-1]] = np.arange(new.size)[::-1]  # the last write wins: the first place
            seen = np.zeros(CODE_POINTS, np.bool_)
            seen[new] = True
            distinct = np.flatnonzero(seen)
            self.order.extend(distinct[np.argsort(first[distinct])].tolist())
        found = np.bincount(codes)
        self.counts[: found.size] += found

    def decompose(self) -> None:
        """Turn counts of a text's code points into those of its NFD form.

        Decomposing a text decomposes each code point and at most reorders marks, so it need not
        be done to the whole text. The order of first appearance is kept, code point by code point.
        """
        counts, order = self.counts, self.order
        self.counts, self.order = np.zeros(CODE_POINTS, np.int64), []
        for code in order:
            for part in map(ord, unicodedata.normalize("NFD", chr(code))):
                if not self.counts[part]:
                    self.order.append(part)
                self.counts[part] += counts[code]

    def kept(self, minimum_count: int) -> Sequence[int]:
        """List the symbols seen at least so often, in order of first appearance."""
        return [code for code in self.order if self.counts[code] >= minimum_count]
