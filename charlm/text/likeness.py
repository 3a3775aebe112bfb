"""Comparison of the characters of the held-out splits with those of the train split.

A text is split by position, so that its end, which is held out, may be in another language.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlm.text.corpus import Corpus
from charlm.text.splits import Split

LONGEST = 100_000
"""Symbols of a stretch, at most."""
MOST, FEWEST, MOST_HELD_OUT = 16, 4, 5
"""Numbers of stretches: the most and the fewest of the train split, and the most of a held-out one.
They suffice to know the variation within a split, and are read quickly."""
LEAST, TIMES = 0.08, 2.5
"""A split is unlike the train split if its distance is above LEAST, and above TIMES the usual one.
None of 37 uniform texts reaches 2 times the usual distance; English followed by German, code or
Russian reaches 6 and more."""


@dataclass(frozen=True)
class Unlike:
    """A split whose characters are unlike those of the train split everywhere.

    distance: the median, over its stretches, of the total variation distance to the nearest stretch
    of the train split. usual: the same for stretches of the train split itself.
    """

    split: str
    distance: float
    usual: float


def unlike_splits(corpus: Corpus) -> list[Unlike]:
    """List the held-out splits that are unlike the train split.

    Stretches are compared by the total variation distance of their symbol frequencies. All have the
    same length, so that chance affects all alike. Of records, which are not split by position, no
    split is listed.
    """
    unlike: list[Unlike] = []
    if corpus.vocabulary.has_end:
        return unlike
    for name in ("validation", "test"):
        split = corpus.splits[name]
        size = min(len(split), LONGEST)
        count = min(MOST, len(corpus.train) // size) if size else 0
        if count < FEWEST:
            continue
        own = _stretches(corpus, corpus.train, size, count)
        held_out = _stretches(corpus, split, size, min(MOST_HELD_OUT, len(split) // size))
        between = [_nearest(one, own[:at] + own[at + 1 :]) for at, one in enumerate(own)]
        usual = float(np.median(between))
        distance = float(np.median([_nearest(one, own) for one in held_out]))
        if distance > max(LEAST, TIMES * usual):
            unlike.append(Unlike(name, distance, usual))
    return unlike


def _stretches(corpus: Corpus, split: Split, size: int, count: int) -> list[NDArray[np.float64]]:
    """Return the symbol frequencies of evenly spaced stretches of a split. Shapes: [V] each."""
    shares = []
    for start in np.linspace(split.start, split.stop - size, count).astype(int).tolist():
        symbols = np.asarray(corpus.symbols[start : start + size])
        shares.append(np.bincount(symbols, minlength=len(corpus.vocabulary)) / size)
    return shares


def _nearest(shares: NDArray[np.float64], others: Sequence[NDArray[np.float64]]) -> float:
    """Return the least total variation distance to others. Shapes: shares [V]."""
    return min(float(np.abs(shares - other).sum()) / 2 for other in others)
