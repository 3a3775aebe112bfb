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
    """The records of a text, as a sorted hash of 8 bytes each: 80 MB for ten million. (That a new
    record has the hash of one of them has a chance of one in a million million, then.)"""

    vocabulary: Vocabulary
    hashes: NDArray[np.uint64]

    @classmethod
    def of(cls, vocabulary: Vocabulary, symbols: SymbolSource) -> "KnownRecords":
        """Read the records of a text, each followed by the vocabulary's end of a record."""
        found: list[bytes] = []
        held = np.empty(0, vocabulary.dtype)
        for start in range(0, len(symbols), AT_ONCE):
            part = np.concatenate([held, np.asarray(symbols[start : start + AT_ONCE])])
            ends = np.flatnonzero(part == vocabulary.end)
            begins = np.concatenate([[0], ends[:-1] + 1]) if ends.size else ends
            content, size = part.tobytes(), part.itemsize
            found += [
                _hash(content[begin * size : end * size])
                for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
            ]
            held = part[ends[-1] + 1 :] if ends.size else part
        return cls(vocabulary, np.unique(np.frombuffer(b"".join(found), DIGEST)))

    def __len__(self) -> int:
        return len(self.hashes)

    def holds(self, indices: Sequence[int]) -> bool:
        """Tell whether the text has a record of just these symbols; an end behind them is left
        out."""
        symbols: Symbols = np.array(indices, self.vocabulary.dtype)
        if symbols.size and symbols[-1] == self.vocabulary.end:
            symbols = symbols[:-1]
        (wanted,) = np.frombuffer(_hash(symbols.tobytes()), DIGEST)
        at = int(np.searchsorted(self.hashes, wanted))
        return at < len(self.hashes) and bool(self.hashes[at] == wanted)


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST.itemsize).digest()
