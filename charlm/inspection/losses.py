"""Decomposition of the loss by causes: each character's surprisal goes to the first that applies.

The causes are ordered, as if an oracle removed one after the other.
Source: Karpathy, Johnson and Fei-Fei 2015, section 4.4.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]

RARE = 5
"""Occurrences in train below which a word is rare."""
SURE = 0.5
"""Least probability for "remembered" by the n-gram model, if the model's is lower."""
REPEATED, BACK = 6, 1_000
"""A character is repeated if it followed the same `REPEATED` characters, at most `BACK` before."""


@dataclass(frozen=True)
class Cause:
    """A cause of loss. share: of all nats. characters: of all characters. bits: per character."""

    name: str
    share: float
    characters: float
    bits: float


def decompose(
    characters: Sequence[str], nats: Reals, ngram_nats: Reals, known_words: Counter[str]
) -> list[Cause]:
    """Divide the loss of a text among its causes, in their order.

    nats, ngram_nats: of each character by the model and by the n-gram model of its train split.
    known_words: of train. Shapes: [N] each. The shares add up to 1.
    """
    names, kinds = _kinds(characters, nats, ngram_nats, known_words)
    total = nats.sum()
    causes = []
    for number, name in enumerate(names):
        own = kinds == number
        if own.any():
            part = nats[own]
            bits = float(part.mean() / np.log(2))
            causes.append(Cause(name, float(part.sum() / total), float(own.mean()), bits))
    return causes


def words_of(characters: Sequence[str]) -> list[tuple[int, int]]:
    """Return the begin and end of each word: letters, and apostrophes between them."""
    spans, begin = [], None
    for at, character in enumerate([*characters, " "]):
        inside = character.isalpha() or (character == "'" and begin is not None)
        if inside and begin is None:
            begin = at
        elif not inside and begin is not None:
            spans.append((begin, at))
            begin = None
    return spans


def _kinds(
    characters: Sequence[str], nats: Reals, ngram_nats: Reals, known: Counter[str]
) -> tuple[list[str], NDArray[np.int64]]:
    """Return the names of the causes and, for each character, the first one that applies."""
    size = len(characters)
    first, rare, name = (np.zeros(size, np.bool_) for _ in range(3))
    word = np.zeros(size, np.bool_)
    for begin, end in words_of(characters):
        spelt = "".join(characters[begin:end])
        word[begin:end] = True
        first[begin] = True
        rare[begin:end] = known[spelt] < RARE
        before = "".join(characters[max(0, begin - 2) : begin]).strip(" \"'(")
        starts = not before or before[-1] in ".!?:\n-"
        name[begin:end] = spelt[:1].isupper() and not spelt.isupper() and not starts
    shifted = np.array(["\n", *characters[:-1]])
    tests = {
        "remembered by the n-gram model": (ngram_nats < -np.log(SURE)) & (nats > ngram_nats),
        "repeated within the text": _repeated(characters),
        "the first character of a line": shifted == "\n",
        "names": name,
        "rare words": rare,
        "first letters of words": first,
        "inside words": word,
        "spaces and punctuation": np.ones(size, np.bool_),
    }
    kinds = np.full(size, -1)
    for number, test in enumerate(tests.values()):
        kinds[(kinds < 0) & test] = number
    return list(tests), kinds


def _repeated(characters: Sequence[str]) -> NDArray[np.bool_]:
    """Return a mask of characters that followed the same `REPEATED` ones at the last occurrence."""
    text, seen = "".join(c[:1] or " " for c in characters), dict[str, int]()
    result = np.zeros(len(text), np.bool_)
    for at in range(REPEATED, len(text)):
        context = text[at - REPEATED : at]
        last = seen.get(context)
        result[at] = last is not None and at - last <= BACK and text[last] == text[at]
        seen[context] = at
    return result
