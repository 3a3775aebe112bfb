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
MIXED = 8 << 20
"""Characters (bytes) of records that are put in the order of their hashes together."""


@dataclass(frozen=True)
class Shares:
    """Which hashes, as fractions of all, go to which split: up to `train` to the train split, from
    there up to `validation` to the validation split, from `test` on to the test split, and what is
    between to the train split, too (so that a limit moves records to the train split only)."""

    train: float
    validation: float
    test: float

    @classmethod
    def of(cls, data: DataConfig, characters: int) -> "Shares":
        """Return the shares of a configuration, for a text of so many characters."""
        train, validation, test = data.split
        most = data.held_out_limit / characters if data.held_out_limit else 1.0
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


class Cutter:
    """Cuts files that come in pieces into records, and counts what it leaves out.

    empty: how many records were left out because nothing is in them. separators: how often the
    separator was found.
    """

    def __init__(self, data: DataConfig) -> None:
        self._kind = data.records
        separator: Record = "\n" if data.records == "lines" else data.separator
        if data.unit == "byte":
            assert isinstance(separator, str)
            separator = separator.encode("utf-8")
        self._separator: Any = separator
        self.empty = self.separators = 0

    def records(self, pieces: Iterable[Record]) -> Iterator[Record]:
        """Yield the records of one file."""
        empty = self._separator[:0]
        held: list[Any] = []  # the record that has begun
        overlap = len(self._separator) - 1  # a separator may have begun in so many characters
        carry = empty
        for piece in pieces:
            carry += piece
            if self._kind != "files":
                first, *others = carry.split(self._separator)
                if others:
                    self.separators += len(others)
                    yield from self._taken(empty.join([*held, first]))
                    *whole, carry = others
                    held = []
                    for record in whole:
                        yield from self._taken(record)
            settled = max(0, len(carry) - max(0, overlap))
            held.append(carry[:settled])
            carry = carry[settled:]
        last = empty.join([*held, carry])
        if last or self._kind == "files":
            yield from self._taken(last)

    def _taken(self, record: Any) -> Iterator[Record]:
        if self._kind == "lines":
            record = record.removesuffix(b"\r" if isinstance(record, bytes) else "\r")
        if record:
            yield record
        else:
            self.empty += 1


def in_blocks(records: Iterable[Record]) -> Iterator[Sequence[Record]]:
    """Put records together that are mixed with each other."""
    block: list[Record] = []
    size = 0
    for record in records:
        block.append(record)
        size += len(record)
        if size >= MIXED:
            yield block
            block, size = [], 0
    if block:
        yield block


def no_separator(data: DataConfig) -> DataError:
    """Make the error for a separator that is not in the text."""
    return DataError(
        f"the separator {data.separator!r} does not occur in the text",
        "check data.separator, or take lines: --set data.records=lines",
    )
