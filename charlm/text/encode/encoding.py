"""Work on one chunk: counting its symbols, or encoding them and writing a shard."""

import hashlib
from collections import Counter as Tally
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np

from charlm.text import reading
from charlm.text import shards as files
from charlm.text.encode.chunks import Chunk
from charlm.text.encode.counting import SymbolCounter
from charlm.text.encode.cutting import Cutting, to_count
from charlm.text.shards import Shard
from charlm.text.sizes import TextSize
from charlm.text.vocabulary import (
    END_OF_RECORD,
    Symbols,
    Vocabulary,
    codes_of,
    is_decomposed,
    joined,
    unit_codes,
)

FEW = 1 << 12


@dataclass(frozen=True)
class Counted:
    """The symbols of a chunk's train split, in order of first appearance, with their counts.

    source: a digest of everything that determines them.
    """

    source: str
    symbols: str
    counts: list[int]


@dataclass(frozen=True)
class Counting:
    """A counter of the symbols of chunks' train splits. results: a folder for counts, or None."""

    cutting: Cutting
    results: Path | None

    def source(self, chunk: Chunk) -> str:
        """Return a digest of everything that determines the counts."""
        return hashlib.sha256(self.cutting.source(chunk).encode("utf-8")).hexdigest()

    def __call__(self, chunk: Chunk) -> Counted:
        """Return the counts of a chunk's train split; those of a killed start are reused."""
        path = self.results / f"counted-{chunk.number:05}" if self.results else None
        source = self.source(chunk)
        match files.read_result(path) if path else None:
            case [known, str(symbols), [*counts]] if known == source:
                return Counted(source, symbols, counts)
        counter = self._count(chunk)
        symbols = "".join(map(chr, counter.order))
        counts = [int(counter.counts[code]) for code in counter.order]
        if path:
            files.save_result(path, [source, symbols, counts])
        return Counted(source, symbols, counts)

    def _count(self, chunk: Chunk) -> SymbolCounter:
        data, counter = self.cutting.data, SymbolCounter()
        if self.cutting.shares is None:
            text = self.cutting.texts(chunk)[0]
        else:
            text = joined(self.cutting.records(chunk).splits[0])
        assert isinstance(text, str)
        as_it_is = is_decomposed(data.unit, data.normalize)
        for piece in to_count(text, data):
            if piece.isascii():
                counter.add_ascii(piece.encode())
                continue
            codes = codes_of(piece) if as_it_is else unit_codes(piece, data.unit, data.normalize)
            counter.add(codes[codes != END_OF_RECORD] if self.cutting.shares else codes)
        return counter


@dataclass(frozen=True)
class Earlier:
    """A shard of an earlier text that was made from the same chunk."""

    folder: Path
    number: int
    shard: Shard


@dataclass(frozen=True)
class ToEncode:
    """A chunk to encode.

    earlier: its shard in an earlier text, if there is one. symbols: its distinct symbols, if the
    whole chunk was counted.
    """

    chunk: Chunk
    earlier: Earlier | None = None
    symbols: str | None = None


@dataclass(frozen=True)
class Encoding:
    """An encoder of chunks, which writes their shards to a folder.

    results: a folder for each shard's metadata, or None.
    """

    cutting: Cutting
    vocabulary: Vocabulary
    folder: Path
    results: Path | None

    def source(self, chunk: Chunk) -> str:
        """Return a digest of everything that determines a shard, except the vocabulary's order."""
        vocabulary = self.vocabulary
        depends = f"{self.cutting.source(chunk)} {vocabulary.dtype} {vocabulary.end}"
        return hashlib.sha256(depends.encode("utf-8")).hexdigest()

    def __call__(self, task: ToEncode) -> Shard:
        """Return the shard of a chunk: the one saved by a killed start; else that of an earlier
        text, if the symbols have the same indices; else a new one."""
        chunk, earlier = task.chunk, task.earlier
        path = self.results / f"encoded-{chunk.number:05}" if self.results else None
        source = self.source(chunk)
        shard = files.from_json(files.read_result(path)) if path else None
        if shard and shard.source == source and files.is_intact(self.folder, chunk.number, shard):
            return shard
        if earlier and self._take_over(chunk.number, earlier):
            shard = earlier.shard
        else:
            shard = self._encode(chunk, source, task.symbols)
        if path:
            files.save_result(path, files.as_json(shard))
        return shard

    def _take_over(self, number: int, earlier: Earlier) -> bool:
        """Link an earlier text's shard as that of chunk `number`; False if it is not intact."""
        return files.is_intact(earlier.folder, earlier.number, earlier.shard) and files.link(
            earlier.folder, earlier.number, self.folder, number
        )

    def _encode(self, chunk: Chunk, source: str, counted: str | None) -> Shard:
        parts = [_Part(self.vocabulary, sees=counted is None) for _ in range(3)]
        empty = 0
        if self.cutting.shares is None:
            for part, text in zip(parts, self.cutting.texts(chunk), strict=True):
                for piece in reading.normalizable(reading.in_blocks(text), self.cutting.data):
                    part.add(piece)
        else:
            of_chunk = self.cutting.records(chunk)
            empty = of_chunk.empty
            if chunk.number == 0:
                parts[0].begin()
            for part, records in zip(parts, of_chunk.splits, strict=True):
                for block in _blocks(records):
                    part.add_records(block, counts_ends=self.cutting.data.records != "files")
        symbols = [indices for part in parts for indices in part.symbols]
        digest, size = files.write_shard(self.folder, chunk.number, symbols)
        counts: Any = tuple(part.count for part in parts)
        totals: Any = tuple(part.size.totals for part in parts)
        unknown: Any = tuple(dict(part.unknown) for part in parts)
        distinct = {symbol for part in parts for symbol in part.distinct()}
        if counted is not None:
            distinct = {*self._units(counted)}
        return Shard(
            source,
            digest,
            size,
            counts,
            totals,
            unknown,
            "".join(sorted(distinct)),
            empty,
        )

    def _units(self, counted: str) -> str:
        """Return the symbols of counted code points; in NFD a code point may have several."""
        decomposed = is_decomposed(self.vocabulary.unit, self.vocabulary.normalize)
        return "".join(normalize("NFD", one) for one in counted) if decomposed else counted


def _blocks(records: Sequence[Any]) -> list[Sequence[Any]]:
    """Group records into batches that are encoded together."""
    blocks, start, size = [], 0, 0
    for number, record in enumerate(records, 1):
        size += len(record)
        if size >= reading.CHARACTERS or number == len(records):
            blocks.append(records[start:number])
            start, size = number, 0
    return blocks


class _Part:
    """The part of a chunk that is in one split, encoded and counted.

    sees: True if its distinct symbols are not known and must be collected.
    """

    def __init__(self, vocabulary: Vocabulary, *, sees: bool) -> None:
        self._vocabulary, self.size = vocabulary, TextSize(vocabulary)
        self._sees = sees and vocabulary.unit != "byte"
        self.symbols: list[Symbols] = []
        self.count, self.unknown = 0, Tally[str]()
        self._seen = np.zeros(len(vocabulary), np.bool_)

    def add(self, piece: str | bytes) -> None:
        """Add a piece that can be normalised independently."""
        self.size.add(piece)
        self._take(self._vocabulary.encode(piece), piece)

    def begin(self) -> None:
        """Put the end of a record before the first one."""
        self._take(self._vocabulary.encode_records([""]), b"")

    def add_records(self, records: Sequence[Any], *, counts_ends: bool) -> None:
        """Add records. counts_ends: True if the end of each is a character of the text."""
        self.size.add_records(records, counts_ends=counts_ends)
        text = joined(records) if isinstance(records[0], str) else b""
        self._take(self._vocabulary.encode_records(records), text)

    def _take(self, indices: Symbols, piece: str | bytes) -> None:
        vocabulary = self._vocabulary
        assert not indices.size or int(indices.max()) < len(vocabulary)
        self.symbols.append(indices)
        self.count += indices.size
        if self._sees:
            self._see(indices)
        if isinstance(piece, str) and (not vocabulary.has_unknown or vocabulary.unknown in indices):
            self.unknown.update(vocabulary.unknown_in(piece))
            self.unknown.pop(chr(END_OF_RECORD), None)

    def _see(self, indices: Symbols) -> None:
        """Record the distinct symbols."""
        if indices.dtype != np.uint8:
            self._seen[indices] = True
            return
        for start, stop in ((0, FEW), (FEW, None)):  # most are seen in the first few
            known = np.flatnonzero(self._seen).astype(np.uint8).tobytes()
            new = indices[start:stop].tobytes().translate(None, known)
            self._seen[np.frombuffer(new, np.uint8)] = True

    def distinct(self) -> list[str]:
        """List the distinct symbols, as they are looked up in the vocabulary."""
        points = self._vocabulary.code_points
        known = [chr(points[at]) for at in np.flatnonzero(self._seen[: len(points)])]
        return [*known, *self.unknown] if self._sees else []
