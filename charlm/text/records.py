"""Records: a text that is a list of texts, each with an end of its own and in one split as a whole.

A record's split is decided by a hash of its content: duplicates are never on both sides of a split,
a sorted list is no problem, and what has been added to a text moves no record to another split.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from charlm.config.schema import DataConfig
from charlm.errors import DataError
from charlm.text.vocabulary import as_bytes

Record = str | bytes


@dataclass(frozen=True)
class Shares:
    """Which hashes, as fractions of all, go to which split: up to `train` to the train split, from
    there up to `validation` to the validation split, from `test` on to the test split, and what is
    between to the train split, too (so that a limit moves records to the train split only)."""

    train: float
    validation: float
    test: float

    @classmethod
    def of(cls, data: DataConfig, characters: int, limit: int) -> "Shares":
        """Return the shares of a configuration. limit: characters in each held-out split."""
        train, validation, test = data.split
        most = limit / max(characters, 1)
        return cls(train, train + min(validation, most), 1.0 - min(test, most))

    def place(self, records: Iterable[Record]) -> tuple[list[Any], list[Any], list[Any]]:
        """Return the records of each split; the train split's in the order of their hashes."""
        train: list[tuple[bytes, Record]] = []
        validation: list[Record] = []
        test: list[Record] = []
        for record in records:
            digest = hashlib.blake2b(as_bytes(record), digest_size=8).digest()
            at = (int.from_bytes(digest, "big") >> 11) / 2**53  # exact, and below 1
            if self.train <= at < self.validation:
                validation.append(record)
            elif at >= self.test and at >= self.train:
                test.append(record)
            else:
                train.append((digest, record))
        train.sort(key=lambda pair: pair[0])
        return [record for _, record in train], validation, test


def records_in(given: Sequence[str] | str | bytes, data: DataConfig) -> tuple[list[Any], int]:
    """Cut what is in a piece of a file into records; return how many separators there are, too."""
    if not isinstance(given, str | bytes):
        texts = list(given)
        return ([text.encode() for text in texts] if data.unit == "byte" else texts), 0
    if data.records == "files":
        return [given], 0
    separator: Any = "\n" if data.records == "lines" else data.separator
    end: Any = "\r"
    if isinstance(given, bytes):
        separator, end = separator.encode(), b"\r"
    parts: list[Any] = given.split(separator)
    separators = len(parts) - 1
    if not parts[-1]:
        parts.pop()  # nothing has begun behind the last one
    if data.records == "lines":
        parts = [part.removesuffix(end) for part in parts]
    return parts, separators


def in_stream(pieces: Iterable[Record], data: DataConfig) -> Iterator[list[Any]]:
    """Yield the records of a text that comes in pieces, without empty ones, some at a time."""
    separator: Any = "\n" if data.records == "lines" else data.separator
    held: Any = None
    for piece in pieces:
        held = piece if held is None else held + piece
        if isinstance(piece, bytes) and isinstance(separator, str):
            separator = separator.encode()
        at = -1 if data.records == "files" else held.rfind(separator)
        if at >= 0:
            at += len(separator)
            records, held = records_in(held[:at], data)[0], held[at:]
            yield [record for record in records if record]
    if held:
        yield records_in(held, data)[0]


def no_separator(data: DataConfig) -> DataError:
    """Make the error for a separator that is not in the text."""
    return DataError(
        f"the separator {data.separator!r} does not occur in the text",
        "check data.separator, or take lines: --set data.records=lines",
    )
