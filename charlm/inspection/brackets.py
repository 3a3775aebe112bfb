"""Predictions of closing brackets and quotes, by the distance of the opening one."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from charlm.inspection.excerpt import Excerpt
from charlm.inspection.features import CLOSING, OPENING

BINS = (1, 4, 8, 16, 32, 64, 128, 10**9)
"""Bounds of the bins of distances from a closing symbol to its opening one."""
LEAST = 5
"""Least pairs in a bin."""
PAIRS = {**dict(zip(CLOSING, OPENING, strict=True)), '"': '"', "\u201d": "\u201c"}


@dataclass(frozen=True)
class Closing:
    """Positions where pairs close, in order. distances: symbols since they were opened."""

    places: NDArray[np.int64]
    distances: NDArray[np.int64]


@dataclass(frozen=True)
class ByDistance:
    """Pairs that were opened `least` to `most` symbols ago. model, ngram: the share of pairs whose
    closing symbol each finds most probable."""

    least: int
    most: int
    count: int
    model: float
    ngram: float


def closings(characters: list[str]) -> Closing:
    """Find the positions where brackets and double quotes close in a text, and their distances.

    A quote that is not closed within its paragraph does not count.
    """
    opened: dict[str, list[int]] = {}
    places, distances, before = [], [], ""
    for at, character in enumerate(characters):
        if character == "\n" == before:
            opened.clear()
        before = character
        opening = PAIRS.get(character)
        if opening and opened.get(opening):
            places.append(at)
            distances.append(at - opened[opening].pop())
        elif character in PAIRS.values():
            opened.setdefault(character, []).append(at)
    return Closing(np.array(places, np.int64), np.array(distances, np.int64))


def by_distance(
    found: Closing, excerpt: Excerpt, model: NDArray[np.int64], ngram: NDArray[np.int64]
) -> list[ByDistance]:
    """Return the shares of closed pairs, by distance.

    model, ngram: the symbol that each finds most probable, at each closing position.
    """
    wanted = np.asarray(excerpt.symbols[excerpt.start + found.places]).astype(np.int64)
    rows = []
    for least, below in pairwise(BINS):
        inside = (found.distances >= least) & (found.distances < below)
        if inside.sum() >= LEAST:
            shares = [float((own == wanted)[inside].mean()) for own in (model, ngram)]
            most = int(found.distances[inside].max())
            rows.append(ByDistance(least, most, int(inside.sum()), *shares))
    return rows
