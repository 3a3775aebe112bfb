"""Division of a chunk of text into train, validation and test."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from charlm.config.schema import DataConfig
from charlm.text import reading
from charlm.text.encode.chunks import Chunk, parts_of, running_text, texts_of
from charlm.text.files.separators import Separator
from charlm.text.records import Shares, records_in
from charlm.text.splits import TextStats, held_out_limit, split_ends
from charlm.text.vocabulary import is_decomposed

ANY_LINE_END = "any line end"
"""Added to fingerprints if the separator matches any line end: earlier versions cut such texts
differently."""


@dataclass(frozen=True)
class RecordsOf:
    """The records of a chunk, by split. empty: number of empty records, which are left out."""

    splits: tuple[list[Any], list[Any], list[Any]]
    empty: int


@dataclass(frozen=True)
class Cutting:
    """The division of a text's chunks into splits.

    ends: the character at which each split ends. shares: for records, in place of `ends`.
    """

    data: DataConfig
    ends: tuple[int, int, int]
    shares: Shares | None

    @classmethod
    def of(cls, data: DataConfig, text: TextStats) -> "Cutting":
        """Return the division of a text. Raises: DataError for an empty split."""
        limit = held_out_limit(data, text)
        if data.records == "none":
            return cls(data, split_ends(data, text.characters, limit), None)
        return cls(data, (0, 0, 0), Shares.of(data, text.characters, limit))

    def source(self, chunk: Chunk) -> Any:
        """Return everything that determines the splits of a chunk, as JSON."""
        shares = self.shares
        where: Any = self._cuts(chunk)
        if shares is not None:
            where = [shares.train, shares.validation, shares.test, chunk.number == 0]
        data = self.data
        kind = [data.unit, data.normalize, data.records, data.separator, data.field]
        if Separator(data.separator).is_flexible:
            kind.append(ANY_LINE_END)
        return json.dumps([chunk.digest, where, kind])

    def has_train(self, chunk: Chunk) -> bool:
        """Return True if a chunk may hold part of the train split."""
        return self.shares is not None or chunk.first < self.ends[0]

    def is_train(self, chunk: Chunk) -> bool:
        """Return True if a chunk certainly lies in the train split as a whole."""
        return self.shares is None and chunk.first + chunk.characters <= self.ends[0]

    def texts(self, chunk: Chunk) -> list[str | bytes]:
        """Return each split's part of a chunk of running text."""
        return list(parts_of(running_text(chunk, self.data), self._cuts(chunk)))

    def records(self, chunk: Chunk) -> RecordsOf:
        """Return the records of each split."""
        assert self.shares is not None
        in_order: list[Any] = []
        for _, content in texts_of(chunk, self.data):
            in_order += records_in(content, self.data)
        filled = [record for record in in_order if record]
        return RecordsOf(self.shares.place(filled), len(in_order) - len(filled))

    def _cuts(self, chunk: Chunk) -> Sequence[int]:
        return [max(-1, min(chunk.characters, end - chunk.first)) for end in self.ends[:2]]


def to_count(text: str, data: DataConfig) -> Iterator[str]:
    """Cut a text into blocks whose symbols can be counted independently."""
    blocks = reading.in_blocks(text)
    whole = is_decomposed(data.unit, data.normalize)  # counts are decomposed at the end
    for piece in blocks if whole else reading.normalizable(blocks, data):
        assert isinstance(piece, str)
        yield piece
