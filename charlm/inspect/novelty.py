"""Records that a model has written: which of them does its training text hold?"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlm.text.symbols import SymbolSource
from charlm.text.vocabulary import Symbols, Vocabulary

AT_ONCE = 1 << 22
"""Symbols that are read at a time."""
DIGEST = np.dtype("<u8")


@dataclass(frozen=True)
class KnownRecords:
    """The different records of a text, as a sorted hash of 8 bytes each: 80 MB for ten million.
    (That a new record has the hash of one of them has a chance of one in a million million.)"""

    vocabulary: Vocabulary
    hashes: NDArray[np.uint64]

    @classmethod
    def of(cls, vocabulary: Vocabulary, symbols: SymbolSource) -> "KnownRecords":
        """Read the records of a text, each followed by the vocabulary's end of a record."""
        found = bytearray()
        held = np.empty(0, vocabulary.dtype)
        for start in range(0, len(symbols), AT_ONCE):
            part = np.concatenate([held, np.asarray(symbols[start : start + AT_ONCE])])
            ends = np.flatnonzero(part == vocabulary.end)
            begins = np.concatenate([[0], ends[:-1] + 1]) if ends.size else ends
            content, size = part.tobytes(), part.itemsize
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
                found += _hash(content[begin * size : end * size])
            held = part[ends[-1] + 1 :] if ends.size else part
        return cls(vocabulary, np.unique(np.frombuffer(found, DIGEST)))

    def __len__(self) -> int:
        return len(self.hashes)

    def lacks(self, indices: Sequence[int]) -> bool:
        """Tell whether these symbols are a record, with its end, that is none of the text's; what
        has not ended is none yet."""
        if not indices or indices[-1] != self.vocabulary.end:
            return False
        symbols: Symbols = np.array(indices[:-1], self.vocabulary.dtype)
        (wanted,) = np.frombuffer(_hash(symbols.tobytes()), DIGEST)
        at = int(np.searchsorted(self.hashes, wanted))
        return at == len(self.hashes) or bool(self.hashes[at] != wanted)


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST.itemsize).digest()
