"""The score of a text: surprisals summed, sizes counted, each ratio formed once."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.text.symbols import SymbolSource
from charlm.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class Score:
    """The surprisal of a text, kept as sums so that every ratio is formed once.

    Units: `nats` in all; `symbols`, `characters` (of the source text) and `bytes` (in UTF-8).
    """

    nats: float
    symbols: int
    characters: int
    bytes: int
    unknown: int = 0
    """Characters outside the vocabulary; what they cost is in `nats`."""

    @property
    def loss(self) -> float:
        """Nats a symbol."""
        return self.nats / self.symbols

    @property
    def bits_per_character(self) -> float:
        return self.nats / math.log(2) / self.characters

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.bytes

    @property
    def perplexity(self) -> float:
        """Per symbol."""
        return math.exp(min(self.loss, 700.0))


def opening_size(vocabulary: Vocabulary, symbols: SymbolSource) -> tuple[int, int]:
    """Count the characters and bytes of a text's first symbol; the end of a record that stands
    before the first one is no part of the text."""
    if vocabulary.end is not None:
        return 0, 0
    if vocabulary.unit == "byte":
        return 1, 1
    return 1, len(vocabulary.symbol(int(symbols[0])).encode("utf-8", "surrogatepass"))


def in_bits(
    vocabulary: Vocabulary, symbols: NDArray[Any], nats: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return surprisals in bits, with what it costs to say which character an unknown one is.

    Shapes: [N] each.
    """
    bits = nats.astype(np.float64) / math.log(2)
    if vocabulary.unknown is not None:
        bits[symbols == vocabulary.unknown] += math.log2(vocabulary.outside)
    return bits


class Tally:
    """Adds up the surprisals of a text, its size, and what unknown characters cost.

    To say which character it is that the vocabulary lacks costs a uniform guess among all code
    points outside of it, on top of what the model gave to the symbol that stands for them. (Else a
    model would look better the fewer characters it knows.)
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self.symbols = 0
        self._nats = 0.0
        self._characters = self._bytes = self._unknown = 0

    def add_surprisals(self, each: Tensor) -> None:
        """Count symbols by their surprisals in nats, summed in float64."""
        self.add_nats(each.sum(dtype=torch.float64).item(), len(each))

    def add_nats(self, nats: float, symbols: int) -> None:
        """Count symbols by what they cost together."""
        self.symbols += symbols
        self._nats += nats

    def add_text(self, characters: int, bytes: int, unknown: int) -> None:
        """Count text, of which `unknown` characters are not in the vocabulary."""
        self._characters += characters
        self._bytes += bytes
        self._unknown += unknown

    def score(self) -> Score:
        """Return the score of all that was added."""
        nats = self._nats + self._unknown * math.log(self._vocabulary.outside)
        left_out = 0 if self._vocabulary.has_unknown else self._unknown
        symbols = self.symbols + left_out
        return Score(nats, symbols, self._characters, self._bytes, self._unknown)
