"""The score of a text: sums of its surprisals and of its size, from which ratios are computed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.text.corpus import Corpus
from charlm.text.symbols import SymbolSource
from charlm.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class Score:
    """The surprisal of a text, stored as sums: a ratio is computed once, not averaged over pieces.

    Units: `nats` in all; `symbols`, `characters` (of the source text) and `bytes` (in UTF-8).
    """

    nats: float
    symbols: int
    characters: int
    bytes: int
    unknown: int = 0
    """Characters outside the vocabulary; their cost is included in `nats`."""

    @classmethod
    def total(cls, scores: "Sequence[Score]") -> "Score":
        """Return the score of several texts together, whose order does not matter."""
        nats = math.fsum(one.nats for one in scores)
        columns = ((one.symbols, one.characters, one.bytes, one.unknown) for one in scores)
        return cls(nats, *map(sum, zip(*columns, strict=True)))

    @property
    def loss(self) -> float:
        """Nats per symbol."""
        return self.nats / self.symbols

    @property
    def bits_per_character(self) -> float:
        return self.nats / math.log(2) / self.characters

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.bytes

    @property
    def perplexity(self) -> float:
        """Perplexity per symbol."""
        return math.exp(min(self.loss, 700.0))


def _opening_size(vocabulary: Vocabulary, symbols: SymbolSource) -> tuple[int, int]:
    """Return the characters and bytes of a text's first symbol; the end of a record before the
    first one is not part of the text."""
    if vocabulary.end is not None:
        return 0, 0
    if vocabulary.unit == "byte":
        return 1, 1
    return 1, len(vocabulary.symbol(int(symbols[0])).encode("utf-8", "surrogatepass"))


def in_bits(
    vocabulary: Vocabulary, symbols: NDArray[Any], nats: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return surprisals in bits, with the cost of identifying each unknown character.

    Shapes: [N] each.
    """
    bits = nats.astype(np.float64) / math.log(2)
    if vocabulary.unknown is not None:
        bits[symbols == vocabulary.unknown] += math.log2(vocabulary.outside)
    return bits


class Tally:
    """Sums of a text's surprisals, of its size, and of the cost of unknown characters.

    A character outside the vocabulary costs the surprisal of the unknown symbol, and then a uniform
    guess among all code points outside the vocabulary. (Without the guess, a model that knows fewer
    characters would look better.)
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self.symbols = 0
        self._nats = 0.0
        self._characters = self._bytes = self._unknown = 0

    def add_surprisals(self, each: NDArray[np.floating]) -> None:
        """Add symbols by their surprisals in nats, summed in float64."""
        self.add_nats(float(each.sum(dtype=np.float64)), len(each))

    def add_nats(self, nats: float, symbols: int) -> None:
        """Add symbols by their total surprisal."""
        self.symbols += symbols
        self._nats += nats

    def add_text(self, characters: int, bytes: int, unknown: int) -> None:
        """Add the size of a text with `unknown` characters outside the vocabulary."""
        self._characters += characters
        self._bytes += bytes
        self._unknown += unknown

    def add_split(self, corpus: Corpus, name: str) -> None:
        """Add the size of a split, without the text's first symbol, which has no context."""
        split, left_out = corpus.splits[name], (0, 0)
        if split.start == 0:
            left_out = _opening_size(self._vocabulary, corpus.symbols)
        characters, size = split.characters - left_out[0], split.bytes - left_out[1]
        self.add_text(characters, size, sum(split.unknown.values()))

    def score(self) -> Score:
        """Return the score of everything added."""
        nats = self._nats + self._unknown * math.log(self._vocabulary.outside)
        left_out = 0 if self._vocabulary.has_unknown else self._unknown
        symbols = self.symbols + left_out
        return Score(nats, symbols, self._characters, self._bytes, self._unknown)
