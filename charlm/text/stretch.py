"""A stretch of a text: symbols in a row, with the text before them as their context."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from charlm.text.symbols import SymbolSource
from charlm.text.vocabulary import Symbols


@dataclass(frozen=True)
class Stretch:
    """The symbols from `start` to `stop` of a text; those before `start` are their context.

    symbols: the whole text. Its first symbol has no context.
    """

    symbols: SymbolSource
    start: int
    stop: int

    @staticmethod
    def of(symbols: SymbolSource) -> "Stretch":
        """Return a whole text as a stretch."""
        return Stretch(symbols, 0, len(symbols))

    def __len__(self) -> int:
        return self.stop - self.start

    def read(self) -> Symbols:
        """Return the symbols of the stretch."""
        return np.asarray(self.symbols[self.start : self.stop])

    def head(self, most: int) -> Self:
        """Return the first `most` symbols, or all."""
        return replace(self, stop=min(self.stop, self.start + most))

    def tail(self, most: int) -> Self:
        """Return the last `most` symbols, or all."""
        return replace(self, start=max(self.start, self.stop - most))

    def with_context(self) -> Self:
        """Return the stretch without the first symbol of the whole text: it cannot be predicted,
        because nothing precedes it."""
        return replace(self, start=min(max(self.start, 1), self.stop))

    def pieces(self, size: int, window: int = 0) -> Iterator[Self]:
        """Cut the stretch into pieces of about `size` symbols, of whole windows each.

        The piece with the first symbol of the whole text is one symbol longer: that symbol is only
        read, and the first window begins after it.
        """
        begin, step = self.start, whole_windows(size, window)
        while begin < self.stop:
            end = min(begin + step + (begin == 0), self.stop)
            yield replace(self, start=begin, stop=end)
            begin = end

    def within(self, whole: "Stretch") -> slice:
        """Return the slice of a longer stretch of the same text that is this one."""
        return slice(self.start - whole.start, self.stop - whole.start)

    def positions(self, count: int, least: int) -> NDArray[np.int64]:
        """Return up to `count` evenly spaced positions in the text, each with at least `least`
        symbols before it. Shapes: [N], N = 0 if the stretch has no such position.
        """
        first = max(self.start, least)
        spread = np.linspace(first, self.stop - 1, count if first < self.stop else 0)
        return np.unique(spread.astype(np.int64))

    def with_history(self, positions: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """Return the symbols at positions of the text, each after the `length` symbols before it.

        Shapes: positions [N]; the result [length + 1, N].
        """
        places = positions - np.arange(length, -1, -1)[:, None]
        symbols: NDArray[np.int64] = self.symbols[places].astype(np.int64)
        return symbols


def whole_windows(size: int, window: int) -> int:
    """Round a number of symbols down to whole windows, but at least to one.

    window: symbols of a window; 0 counts each symbol as one.
    """
    return max(1, size // max(window, 1)) * max(window, 1)
