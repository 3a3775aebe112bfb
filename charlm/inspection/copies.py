"""Spans that a text shares with a model's training text, symbol by symbol.

Every piece of `SEED` symbols of the shorter text is looked up in the longer one by its hash;
matches are compared and extended to both sides: 10 MB of train take about a second. (A suffix array
of it, by numpy, took ten times as long, and must be made before the first query.)

Symbols: N symbols of train, M of the other text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlm.text.symbols import SymbolSource
from charlm.text.vocabulary import Symbols

SEED = 12
"""Least symbols of a shared span: shorter ones are common in any text of the language."""
BASE = np.uint64(0x9E3779B97F4A7C15)
"""Multiplier of the hash; odd, so that no symbol is lost. Matches are compared afterwards."""
AT_ONCE = 1 << 22
LONG = 50
"""Symbols from which a shared span is more than a common phrase."""
LISTED = 10
"""Spans that are listed."""
COMMONEST = 200
"""Most positions of a seed in train, from the first: a row of spaces has thousands."""


@dataclass(frozen=True)
class Span:
    """A piece of a text that is also in train. start, length: in the text; place: in train."""

    start: int
    length: int
    place: int


@dataclass(frozen=True)
class Copied:
    """A text, with a string per symbol, and its spans that are in train, longest first."""

    label: str
    characters: Sequence[str]
    spans: Sequence[Span]

    def share(self, least: int = SEED) -> float:
        """Return the share of the text in shared spans of at least `least` symbols."""
        long = [span for span in self.spans if span.length >= least]
        return share_copied(long, len(self.characters))

    def text_of(self, span: Span) -> str:
        """Return the text of a span."""
        return "".join(self.characters[span.start : span.start + span.length])


def shared_spans(text: Symbols, train: SymbolSource) -> list[Span]:
    """Return the spans of a text that are in train, at least `SEED` symbols each, longest first.

    None of them lies within another. If a span occurs more than once, one position is returned.
    """
    own = text.astype(np.uint64)
    if len(own) < SEED:
        return []
    hashes = _hashes(own)
    table, numbers = np.unique(hashes, return_inverse=True)
    by_number = np.argsort(numbers, kind="stable")
    counts = np.bincount(numbers, minlength=len(table))
    begins = np.cumsum(counts) - counts
    hits, places = _occurrences(table, train)
    hits, places = _first_places(hits, places)
    repeats = counts[hits]
    row = np.repeat(np.arange(len(hits)), repeats)
    within = np.arange(len(row)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    starts = by_number[begins[hits[row]] + within]
    return _maximal(own, train, starts, places[row])


def share_copied(spans: list[Span], size: int) -> float:
    """Return the share of a text's symbols in its shared spans."""
    copied = np.zeros(max(size, 1), np.bool_)
    for span in spans:
        copied[span.start : span.start + span.length] = True
    return float(copied[:size].mean()) if size else 0.0


def apart(spans: list[Span], most: int) -> list[Span]:
    """Return the longest spans that do not overlap, at most `most` of them."""
    chosen: list[Span] = []
    for span in spans:
        end = span.start + span.length
        if all(end <= one.start or span.start >= one.start + one.length for one in chosen):
            chosen.append(span)
        if len(chosen) == most:
            break
    return chosen


def copies_data(copied: Copied) -> dict[str, object]:
    """Return the shared spans of a text for the output of `--json`."""
    return {
        "characters": len(copied.characters),
        "longest": copied.spans[0].length if copied.spans else 0,
        "share": round(copied.share(), 4),
        "share_long": round(copied.share(LONG), 4),
        "spans": [
            {
                "start": one.start,
                "length": one.length,
                "place": one.place,
                "text": copied.text_of(one),
            }
            for one in apart(list(copied.spans), LISTED)
        ],
    }


def _first_places(
    hits: NDArray[np.int64], places: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keep the first `COMMONEST` positions of each seed."""
    order = np.argsort(hits, kind="stable")
    hits, places = hits[order], places[order]
    begins = np.searchsorted(hits, hits)
    is_early = np.arange(len(hits)) - begins < COMMONEST
    return hits[is_early], places[is_early]


def _occurrences(
    table: NDArray[np.uint64], train: SymbolSource
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the table's hashes in train; return their numbers in the table, and the positions."""
    hits, places = [], []
    possible = np.zeros(1 << 20, np.bool_)  # by the highest 20 bits: excludes nearly all at once
    possible[table >> np.uint64(44)] = True
    for begin in range(0, max(0, len(train) - SEED + 1), AT_ONCE):
        piece = np.asarray(train[begin : begin + AT_ONCE + SEED - 1]).astype(np.uint64)
        hashes = _hashes(piece)
        candidates = np.flatnonzero(possible[hashes >> np.uint64(44)])
        at = np.searchsorted(table, hashes[candidates])
        at[at == len(table)] = 0
        matches = table[at] == hashes[candidates]
        hits.append(at[matches])
        places.append(begin + candidates[matches])
    if not hits:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate(hits), np.concatenate(places)


def _hashes(symbols: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a hash of each piece of `SEED` symbols, by Horner's rule modulo 2^64."""
    count = len(symbols) - SEED + 1
    result = np.zeros(max(count, 0), np.uint64)
    for offset in range(SEED if count > 0 else 0):
        result *= BASE
        result += symbols[offset : offset + count] + np.uint64(1)
    result ^= result >> np.uint64(29)
    return result


def _maximal(
    text: NDArray[np.uint64],
    train: SymbolSource,
    starts: NDArray[np.int64],
    places: NDArray[np.int64],
) -> list[Span]:
    """Join seeds that continue each other, compare and extend them; drop spans within others."""
    order = np.lexsort((starts, places - starts))
    starts, places = starts[order], places[order]
    fresh = np.ones(len(starts), np.bool_)
    fresh[1:] = (np.diff(places - starts) != 0) | (np.diff(starts) != 1)
    longest: dict[int, Span] = {}
    for first in np.flatnonzero(fresh).tolist():
        span = _extended(text, train, int(starts[first]), int(places[first]))
        if span.length >= SEED and span.length > getattr(longest.get(span.start), "length", 0):
            longest[span.start] = span
    kept, end = [], 0
    for start in sorted(longest):
        span = longest[start]
        if start + span.length > end:
            kept.append(span)
            end = start + span.length
    return sorted(kept, key=lambda one: (-one.length, one.start))


def _extended(text: NDArray[np.uint64], train: SymbolSource, start: int, place: int) -> Span:
    """Return the longest span around a pair of positions. Its length is 0 if they differ."""
    right = _common(text, train, start, place, 1)
    left = _common(text, train, start - 1, place - 1, -1) if right else 0
    return Span(start - left, left + right, place - left)


def _common(
    text: NDArray[np.uint64], train: SymbolSource, start: int, place: int, direction: int
) -> int:
    """Count the equal symbols from two positions on, in one direction."""
    room = min(len(text) - start, len(train) - place) if direction > 0 else min(start, place) + 1
    done, size = 0, 64
    while done < room:
        size = min(size, room - done)
        steps = done + np.arange(size)
        own = text[start + direction * steps]
        other = train[place + direction * steps].astype(np.uint64)
        differ = np.flatnonzero(own != other)
        if differ.size:
            return done + int(differ[0])
        done += size
        size *= 2
    return done
