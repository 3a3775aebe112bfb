"""Whether what is held out has the characters of what is trained on: a text is split by place, and
its end may be in another language.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlm.text.corpus import Corpus
from charlm.text.splits import Split

LONGEST = 100_000
"""Symbols of a stretch."""
MOST, FEWEST, MOST_HELD_OUT = 16, 4, 5
"""Stretches of the train split and of one that is held out: enough to know how much they differ by
themselves, few enough to be read in a moment."""
LEAST, TIMES = 0.08, 2.5
"""A split is unlike the train split from this distance on, and from so many times the usual one.
Of 37 texts of one kind none comes to 2; English before German, code or Russian to 6 and more."""


@dataclass(frozen=True)
class Unlike:
    """A split whose characters are unlike all of the train split.

    distance: of its stretches to the nearest of the train split, the median, as the share of
    characters that would have to be others. usual: that between stretches of the train split.
    """

    split: str
    distance: float
    usual: float


def unlike_splits(corpus: Corpus) -> list[Unlike]:
    """List the held-out splits that are unlike the train split.

    Stretches of one length are compared, by the total variation distance between how often each
    symbol is in them: chance moves both alike. Records are split by their content, not by place.
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
    """Return the shares of symbols in evenly spaced stretches of a split. Shapes: [V] each."""
    shares = []
    for start in np.linspace(split.start, split.stop - size, count).astype(int).tolist():
        symbols = np.asarray(corpus.symbols[start : start + size])
        shares.append(np.bincount(symbols, minlength=len(corpus.vocabulary)) / size)
    return shares


def _nearest(shares: NDArray[np.float64], others: Sequence[NDArray[np.float64]]) -> float:
    """Return the least total variation distance to others. Shapes: shares [V]."""
    return min(float(np.abs(shares - other).sum()) / 2 for other in others)
