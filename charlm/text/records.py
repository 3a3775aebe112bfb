"""Records: a text as a list of texts. Each ends with a symbol of its own and is in one split.

A hash of a record's content, in the normal form that the model reads, decides its split. So
duplicates share a split, a sorted list is split as well as a shuffled one, and text added later
moves no record to another split. One exception: `data.held_out_limit` (always set above 10 GiB)
limits the size of the held-out splits. Their share then shrinks as the text grows, and records move
from them to the train split.
"""

import hashlib
import unicodedata
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from charlm.common.errors import DataError
from charlm.config.schema import DataConfig
from charlm.text.files.separators import Separator
from charlm.text.vocabulary import as_bytes, is_decomposed

Record = str | bytes


@dataclass(frozen=True)
class Shares:
    """The borders between the splits. A record's hash, as a number from 0 to 1, decides:

        train        [0, train) and [validation, test)
        validation   [train, validation)
        test         [test, 1)

    [validation, test) is empty unless a limit shortens a held-out split: so a limit moves records
    to the train split only. form: the normal form of which the hash is taken; None: as it is.
    """

    train: float
    validation: float
    test: float
    form: Literal["NFC", "NFD"] | None = None

    @classmethod
    def of(cls, data: DataConfig, characters: int, limit: int) -> "Shares":
        """Return the shares of a configuration.

        characters: of the whole text. limit: the most characters of a held-out split.
        """
        train, validation, test = data.split
        most = limit / max(characters, 1)
        form: Literal["NFC", "NFD"] | None = None
        if data.unit != "byte" and (data.unit == "jamo" or data.normalize != "none"):
            form = "NFD" if is_decomposed(data.unit, data.normalize) else "NFC"
        return cls(train, train + min(validation, most), 1.0 - min(test, most), form)

    def place(self, records: Iterable[Record]) -> tuple[list[Any], list[Any], list[Any]]:
        """Divide records into train, validation and test.

        The records of train are sorted by hash. Further copies of a record are hashed with their
        number, so that copies are not next to each other.
        """
        train: list[tuple[bytes, Record]] = []
        validation: list[Record] = []
        test: list[Record] = []
        copies: Tally[bytes] = Tally()
        for record in records:
            digest = self._hash(record)
            at = (int.from_bytes(digest, "big") >> 11) / 2**53  # exact, and below 1
            if self.train <= at < self.validation:
                validation.append(record)
            elif at >= self.test and at >= self.train:
                test.append(record)
            else:
                copy = copies[digest]
                copies[digest] += 1
                train.append((_digest(b"%d " % copy + digest) if copy else digest, record))
        train.sort(key=lambda pair: pair[0])
        return [record for _, record in train], validation, test

    def _hash(self, record: Record) -> bytes:
        """Hash a record in the form that the vocabulary sees."""
        if self.form and isinstance(record, str) and not record.isascii():
            record = unicodedata.normalize(self.form, record)
        return _digest(as_bytes(record))


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=8).digest()


def records_in(content: Sequence[str] | str | bytes, data: DataConfig) -> list[Any]:
    """Cut the content of a piece of a file into records."""
    if not isinstance(content, str | bytes):
        texts = list(content)
        return [text.encode() for text in texts] if data.unit == "byte" else texts
    if data.records == "files":
        return [content]
    parts = _separator(data).split(content)
    if not parts[-1]:
        parts.pop()  # no record begins after the last separator
    return _without_returns(parts, data)


def in_stream(pieces: Iterable[Record | Sequence[str]], data: DataConfig) -> Iterator[list[Any]]:
    """Yield batches of a text's records, without the empty ones.

    pieces: pieces of the text, or lists of records. One whole record at a time is held in memory.
    """
    held: list[Any] = []
    separator = _separator(data)
    tail: Any = None  # the end of the held text, in which a separator may have begun
    for piece in pieces:
        if not isinstance(piece, str | bytes):
            yield list(filter(None, records_in(piece, data)))
            continue
        if data.records == "files":
            held.append(piece)
            continue
        *parts, rest = separator.split(piece if tail is None else tail + piece)
        if parts:
            parts[0] = piece[:0].join([*held, parts[0]])
            held = []
            yield list(filter(None, _without_returns(parts, data)))
        cut = max(0, len(rest) - separator.longest(piece) + 1)
        held.append(rest[:cut])
        tail = rest[cut:]
    if held:
        last = held[0][:0].join(held if tail is None else [*held, tail])
        yield list(filter(None, _without_returns([last], data)))


def _separator(data: DataConfig) -> Separator:
    """Return the separator of records. For lines it is "\\n": `_without_returns` removes "\\r"."""
    is_lines = data.records == "lines"
    return Separator("\n" if is_lines else data.separator, is_exact=is_lines)


def _without_returns(parts: list[Any], data: DataConfig) -> list[Any]:
    """Remove the carriage return at the end of each line."""
    if data.records != "lines":
        return parts
    return [part.removesuffix("\r" if isinstance(part, str) else b"\r") for part in parts]


def no_separator(data: DataConfig) -> DataError:
    """Make the error for a separator that does not occur in the text."""
    advice = "check data.separator, or take lines: --set data.records=lines"
    if "\\" in data.separator:
        advice = f"to write a new line, quote it twice: --set 'data.separator=\"{data.separator}\"'"
    return DataError(f"the separator {data.separator!r} does not occur in the text", advice)
