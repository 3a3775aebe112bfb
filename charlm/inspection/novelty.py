"""Novelty of sampled records: a lookup in the records of the training text."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlm.text.symbols import SymbolSource
from charlm.text.vocabulary import Symbols, Vocabulary

AT_ONCE = 1 << 22
"""Symbols read at a time."""
DIGEST = np.dtype("<u8")


@dataclass(frozen=True)
class KnownRecords:
    """The distinct records of a text, as sorted hashes of 8 bytes each: 80 MB for ten million.
    (The chance that a new record has the hash of one of them is about one in 10^12.)"""

    vocabulary: Vocabulary
    hashes: NDArray[np.uint64]

    @classmethod
    def of(cls, vocabulary: Vocabulary, symbols: SymbolSource) -> "KnownRecords":
        """Read the records of a text, each followed by the vocabulary's end of a record."""
        hashes = bytearray()
        held = np.empty(0, vocabulary.dtype)
        for start in range(0, len(symbols), AT_ONCE):
            part = np.concatenate([held, np.asarray(symbols[start : start + AT_ONCE])])
            ends = np.flatnonzero(part == vocabulary.end)
            begins = np.concatenate([[0], ends[:-1] + 1]) if ends.size else ends
            content, size = part.tobytes(), part.itemsize
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
                hashes += _hash(content[begin * size : end * size])
            held = part[ends[-1] + 1 :] if ends.size else part
        return cls(vocabulary, np.unique(np.frombuffer(hashes, DIGEST)))

    def __len__(self) -> int:
        return len(self.hashes)

    def lacks(self, indices: Sequence[int]) -> bool:
        """Return True if `indices` is a complete record that the text does not contain."""
        if not indices or indices[-1] != self.vocabulary.end:
            return False
        symbols: Symbols = np.array(indices[:-1], self.vocabulary.dtype)
        (wanted,) = np.frombuffer(_hash(symbols.tobytes()), DIGEST)
        at = int(np.searchsorted(self.hashes, wanted))
        return at == len(self.hashes) or bool(self.hashes[at] != wanted)


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST.itemsize).digest()
