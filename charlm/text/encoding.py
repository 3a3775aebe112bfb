"""Text files -> vocabulary and splits, and symbols in a folder."""

import itertools
import logging
import os
from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from charlm.config.schema import DataConfig
from charlm.errors import DataError
from charlm.files import sync_folder, write_synced
from charlm.text import reading
from charlm.text.counting import SymbolCounter
from charlm.text.reading import Snapshot
from charlm.text.records import Cutter, Record, Shares, in_blocks, no_separator
from charlm.text.splits import SPLITS, Split, TextStats, split_ends
from charlm.text.symbols import DIGESTS, SymbolWriter
from charlm.text.vocabulary import (
    BYTES,
    BYTES_IN_RECORDS,
    END_OF_RECORD,
    TextSize,
    Vocabulary,
    codes_of,
    is_decomposed,
    joined,
    unit_codes,
)

log = logging.getLogger(__name__)


def encode(folder: Path, data: DataConfig, text: TextStats) -> tuple[Vocabulary, dict[str, Split]]:
    """Encode a text, and write its symbols and their digests to a folder.

    Raises: DataError for a text that is no UTF-8 or has changed, and for an empty split.
    """
    encoding = (_Text if data.records == "none" else _Records)(data, text)
    vocabulary = _build_vocabulary(data, encoding)
    out = SymbolWriter(folder)
    try:
        splits = encoding.write(vocabulary, out)
        file, digests = out.finish()
        file.flush()
        os.fsync(file.fileno())
    finally:
        out.close()
    write_synced(folder / DIGESTS, digests)
    sync_folder(folder)
    return vocabulary, splits


def _build_vocabulary(data: DataConfig, encoding: "_Text | _Records") -> Vocabulary:
    has_end = data.records != "none"
    if data.unit == "byte":
        return BYTES_IN_RECORDS if has_end else BYTES
    counter, normalize = SymbolCounter(), data.normalize
    decompose = is_decomposed(data.unit, normalize)
    for piece in encoding.trained(whole=not decompose):
        codes = codes_of(piece) if decompose else unit_codes(piece, data.unit, normalize)
        counter.add(codes[codes != END_OF_RECORD] if has_end else codes)
    if decompose:
        counter.decompose()
    kept = counter.kept(data.minimum_count)
    if not kept:
        raise DataError(
            f"no character occurs {data.minimum_count} times in the train split",
            "lower data.minimum_count",
        )
    return Vocabulary(data.unit, data.normalize, tuple(kept), data.unknown, has_end)


class _Text:
    """One running text, cut at two places into its splits."""

    def __init__(self, data: DataConfig, text: TextStats) -> None:
        self._data, self._files = data, text.files
        self._ends, self._snapshot = split_ends(data, text.characters), Snapshot(text.digests)

    def trained(self, *, whole: bool) -> Iterator[str]:
        """Yield the train split. whole: in pieces that may be normalised one by one."""
        pieces = next(self._by_split())
        for piece in reading.normalizable(pieces, self._data) if whole else pieces:
            assert isinstance(piece, str)
            yield piece

    def write(self, vocabulary: Vocabulary, out: SymbolWriter) -> dict[str, Split]:
        splits, start = {}, 0
        for name, pieces in zip(SPLITS, self._by_split(), strict=True):
            tally = _Tally(vocabulary, out)
            for piece in reading.normalizable(pieces, self._data):
                tally.add(piece)
            splits[name] = tally.split(start)
            start = splits[name].stop
        return splits

    def _by_split(self) -> Iterator[Iterator[str | bytes]]:
        return reading.by_split(self._files, self._data, self._ends, self._snapshot)


class _Records:
    """A list of records, each in one of the splits."""

    def __init__(self, data: DataConfig, text: TextStats) -> None:
        self._data, self._files = data, text.files
        self._shares, self._snapshot = Shares.of(data, text.characters), Snapshot(text.digests)

    def trained(self, *, whole: bool) -> Iterator[str]:
        """Yield the train split, `END_OF_RECORD` behind each record."""
        return (joined(records) for records in self._of(0, Cutter(self._data)))

    def write(self, vocabulary: Vocabulary, out: SymbolWriter) -> dict[str, Split]:
        out.write(vocabulary.encode_records([""]))
        splits, start = {}, 0
        for number, name in enumerate(SPLITS):
            tally, cutter = _Tally(vocabulary, out, int(number == 0)), Cutter(self._data)
            for records in self._of(number, cutter):
                tally.add_records(records, counts_ends=self._data.records != "files")
            splits[name] = tally.split(start)
            start = splits[name].stop
            if (number == 0 or self._data.split[number]) and not splits[name].bytes:
                raise DataError(
                    f"none of the records falls into the {name} split",
                    f"use more records, or a split such as {[1.0, 0.0, 0.0]} without one",
                )
        if cutter.empty:
            log.warning(f"{cutter.empty:,} empty records are left out")
        return splits

    def _of(self, number: int, cutter: Cutter) -> Iterator[Sequence[Record]]:
        """Yield the records of one split."""
        records = itertools.chain.from_iterable(
            cutter.records(reading.pieces_of([file], self._data, self._snapshot))
            for file in self._files
        )
        for block in in_blocks(records):
            if chosen := self._shares.place(block)[number]:
                yield chosen
        if self._data.records == "separator" and not cutter.separators:
            raise no_separator(self._data)


class _Tally:
    """Encodes a split, and counts what is in it. before: symbols that belong to it already."""

    def __init__(self, vocabulary: Vocabulary, out: SymbolWriter, before: int = 0) -> None:
        self._vocabulary, self._out, self._symbols = vocabulary, out, before
        self._size, self._unknown = TextSize(vocabulary), Tally[str]()

    def add(self, piece: str | bytes) -> None:
        """Add a piece that may be normalised by itself."""
        self._size.add(piece)
        self._write(self._vocabulary.encode(piece), piece)

    def add_records(self, records: Sequence[Record], *, counts_ends: bool) -> None:
        """Add records. counts_ends: whether each's end is a character of the text."""
        self._size.add_records(records, counts_ends=counts_ends)
        text = joined(records) if isinstance(records[0], str) else b""
        self._write(self._vocabulary.encode_records(records), text)

    def _write(self, indices: np.ndarray, piece: str | bytes) -> None:
        vocabulary = self._vocabulary
        assert not indices.size or int(indices.max()) < len(vocabulary)
        self._out.write(indices)
        self._symbols += indices.size
        if isinstance(piece, str) and (not vocabulary.has_unknown or vocabulary.unknown in indices):
            self._unknown.update(vocabulary.unknown_in(piece))
            self._unknown.pop(chr(END_OF_RECORD), None)

    def split(self, start: int) -> Split:
        """Return the split, which starts at a position."""
        found = dict(self._unknown.most_common())
        stop = start + self._symbols
        return Split(start, stop, self._size.characters, self._size.bytes, found)
