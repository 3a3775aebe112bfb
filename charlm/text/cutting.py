"""What of a chunk is in which split."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from charlm.config.schema import DataConfig
from charlm.text import reading
from charlm.text.chunks import Chunk, parts_of, running_text, texts_of
from charlm.text.records import Shares, records_in
from charlm.text.separators import Separator
from charlm.text.splits import TextStats, held_out_limit, split_ends
from charlm.text.vocabulary import is_decomposed

ANY_LINE_END = "any line end"
"""Of a separator; earlier versions cut a text with line ends of Windows elsewhere."""


@dataclass(frozen=True)
class RecordsOf:
    """The records of a chunk. splits: those of each. empty: how many were left out because nothing
    is in them."""

    splits: tuple[list[Any], list[Any], list[Any]]
    empty: int


@dataclass(frozen=True)
class Cutting:
    """Cuts the chunks of a text into splits.

    ends: the character at which each split ends. shares: of records, instead.
    """

    data: DataConfig
    ends: tuple[int, int, int]
    shares: Shares | None

    @classmethod
    def of(cls, data: DataConfig, text: TextStats) -> "Cutting":
        """Return how a text is cut. Raises: DataError for an empty split."""
        limit = held_out_limit(data, text)
        if data.records == "none":
            return cls(data, split_ends(data, text.characters, limit), None)
        return cls(data, (0, 0, 0), Shares.of(data, text.characters, limit))

    def source(self, chunk: Chunk) -> Any:
        """Tell all that the splits of a chunk depend on, but for the vocabulary."""
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
        """Tell whether a chunk may hold some of the train split."""
        return self.shares is not None or chunk.first < self.ends[0]

    def is_train(self, chunk: Chunk) -> bool:
        """Tell whether all of a chunk is in the train split, for certain."""
        return self.shares is None and chunk.first + chunk.characters <= self.ends[0]

    def texts(self, chunk: Chunk) -> list[str | bytes]:
        """Return the part of each split of a running text."""
        return list(parts_of(running_text(chunk, self.data), self._cuts(chunk)))

    def records(self, chunk: Chunk) -> RecordsOf:
        """Return the records of each split."""
        assert self.shares is not None
        found: list[Any] = []
        for _, given in texts_of(chunk, self.data):
            found += records_in(given, self.data)
        filled = [record for record in found if record]
        return RecordsOf(self.shares.place(filled), len(found) - len(filled))

    def _cuts(self, chunk: Chunk) -> Sequence[int]:
        return [max(-1, min(chunk.characters, end - chunk.first)) for end in self.ends[:2]]


def to_count(text: str, data: DataConfig) -> Iterator[str]:
    """Cut a part of a text into blocks whose symbols are counted one by one."""
    blocks = reading.in_blocks(text)
    whole = is_decomposed(data.unit, data.normalize)  # those are decomposed at the end
    for piece in blocks if whole else reading.normalizable(blocks, data):
        assert isinstance(piece, str)
        yield piece
