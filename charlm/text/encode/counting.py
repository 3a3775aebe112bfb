"""Symbol counts of a text that is read as a stream, for making its vocabulary."""

import unicodedata
from collections.abc import Sequence

import numpy as np

from charlm.text.vocabulary import CODE_POINTS, Codes

CACHED = 1 << 16
"""Bytes counted at a time: numpy makes a copy eight times as large."""


class SymbolCounter:
    """Counts of the symbols of a stream, with their order of first appearance."""

    def __init__(self) -> None:
        self.counts = np.zeros(CODE_POINTS, np.int64)
        self.order: list[int] = []

    def add_ascii(self, content: bytes) -> None:
        """Count an ASCII text: several times as fast as `add`."""
        counts = np.zeros(128, np.int64)
        for start in range(0, len(content), CACHED):
            part = np.frombuffer(content, np.uint8, min(CACHED, len(content) - start), start)
            counts += np.bincount(part, minlength=128)
        new = np.flatnonzero((counts > 0) & (self.counts[:128] == 0)).tolist()
        self.order.extend(sorted(new, key=lambda code: content.index(code)))
        self.counts[:128] += counts

    def merge(self, symbols: str, counts: Sequence[int]) -> None:
        """Add the counts of the text that follows, in its order of first appearance."""
        for code, count in zip(map(ord, symbols), counts, strict=True):
            if not self.counts[code]:
                self.order.append(code)
            self.counts[code] += count

    def add(self, codes: Codes) -> None:
        new = codes[self.counts[codes] == 0]
        if new.size:
            first = np.zeros(CODE_POINTS, np.int64)
            first[new[::-1]] = np.arange(new.size)[::-1]  # the last write wins: the first place
            seen = np.zeros(CODE_POINTS, np.bool_)
            seen[new] = True
            distinct = np.flatnonzero(seen)
            self.order.extend(distinct[np.argsort(first[distinct])].tolist())
        counts = np.bincount(codes)
        self.counts[: counts.size] += counts

    def decompose(self) -> None:
        """Turn counts of a text's code points into those of its NFD form.

        NFD replaces each code point by its parts, and reorders marks, which changes no count. So it
        suffices to decompose each counted code point, in the order of first appearance.
        """
        counts, order = self.counts, self.order
        self.counts, self.order = np.zeros(CODE_POINTS, np.int64), []
        for code in order:
            for part in map(ord, unicodedata.normalize("NFD", chr(code))):
                if not self.counts[part]:
                    self.order.append(part)
                self.counts[part] += counts[code]

    def frequent(self, minimum_count: int) -> Sequence[int]:
        """List the symbols with at least `minimum_count` occurrences, by first appearance."""
        return [code for code in self.order if self.counts[code] >= minimum_count]
