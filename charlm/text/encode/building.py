"""Encoding of a text: its vocabulary, its splits, and its symbols in shards."""

import logging
import shutil
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from charlm.common.errors import DataError
from charlm.common.files import cache_folder, writable
from charlm.common.wording import different_sizes
from charlm.config.schema import DataConfig
from charlm.text.encode.chunks import Chunk, plan, with_contents
from charlm.text.encode.counting import SymbolCounter
from charlm.text.encode.cutting import Cutting
from charlm.text.encode.encoding import Counted, Counting, Earlier, Encoding, ToEncode
from charlm.text.encode.workers import Workers, workers
from charlm.text.records import no_separator
from charlm.text.shards import Shard, sync
from charlm.text.sizes import shorter
from charlm.text.splits import (
    SAMPLED,
    SPLITS,
    EmptySplitError,
    Split,
    TextStats,
    TooRareError,
)
from charlm.text.vocabulary import BYTES, BYTES_IN_RECORDS, Vocabulary

log = logging.getLogger(__name__)

Result = TypeVar("Result")
ProgressCallback = Callable[[int, int], object]
"""Progress callback: called with the number of bytes done, and of all bytes."""


@dataclass(frozen=True)
class Built:
    """The result of encoding, but for the symbols, which are in files. counted: the counts from
    which the vocabulary was made."""

    vocabulary: Vocabulary
    splits: dict[str, Split]
    shards: list[Shard]
    counted: list[Counted]


@dataclass(frozen=True)
class EarlierText:
    """An earlier encoded text that may share chunks with a new one. folder: holds its shards."""

    folder: Path
    built: Built

    def shards(self, vocabulary: Vocabulary) -> dict[str, Earlier]:
        """Return the shards, by source, that `vocabulary` would encode to the same indices.

        New characters are appended to a vocabulary, so that known ones keep their indices. But the
        first new one has the index that meant "unknown" before. So equal indices do not suffice: a
        shard is left out if one of its unknown characters is known now.
        """
        own, known = self.built.vocabulary, {*map(chr, vocabulary.code_points)}
        reusable = {}
        for number, shard in enumerate(self.built.shards):
            indices = vocabulary.indices_of(shard.symbols)
            is_unknown = all(known.isdisjoint(counts) for counts in shard.unknown)
            if is_unknown and np.array_equal(own.indices_of(shard.symbols), indices):
                reusable[shard.source] = Earlier(self.folder, number, shard)
        return reusable


def build(
    folder: Path,
    data: DataConfig,
    text: TextStats,
    *,
    earlier: EarlierText | None = None,
    results: Path | None = None,
    advanced: ProgressCallback = lambda *_: None,
) -> Built:
    """Encode a text, and write its symbols and their digests to a folder.

    earlier: a text whose unchanged shards are reused. results: a folder for intermediate results,
        so that the next start continues from them. advanced: progress callback.

    Raises: DataError for a text that is not UTF-8 or has changed, for an empty split, and for a
        separator that does not occur in it.
    """
    if data.records == "separator" and not any(one.separators for one in text.measured.values()):
        raise no_separator(data)
    chunks, cutting = plan(text, data), Cutting.of(data, text)
    train = [] if data.unit == "byte" else _to_count(chunks, cutting, text)
    progress = _Progress(sum(chunk.size for chunk in [*train, *chunks]), advanced)
    results = writable(results) if results and len(chunks) > 1 else None
    with workers(text.size) as pool:
        known = {one.source: one for one in earlier.built.counted} if earlier else {}
        counted = _counted(train, Counting(cutting, results), known, pool, progress)
        counter = _counter(data, counted)
        if data.records != "none" and data.unit != "byte" and not counter.order:
            raise _no_record_in("train", chunks, cutting)
        vocabulary = _vocabulary(data, counter)
        encoding = Encoding(cutting, vocabulary, folder, results)
        same = earlier.shards(vocabulary) if earlier else {}
        new = [chunk for chunk in chunks if encoding.source(chunk) not in same]
        _refuse_no_room(folder, new, data, vocabulary)
        symbols = {
            chunk.number: one.symbols
            for chunk, one in zip(train, counted, strict=True)
            if cutting.is_train(chunk)
        }
        tasks = (
            ToEncode(chunk, same.get(encoding.source(chunk)), symbols.get(chunk.number))
            for chunk in with_contents(chunks, data)
        )
        shards = _synced(folder, progress.over(chunks, pool.map(encoding, tasks)))
    if data.records != "none":
        _check_records(chunks, cutting, shards)
    return Built(vocabulary, _splits(shards), shards, counted)


def _refuse_no_room(
    folder: Path, new: Sequence[Chunk], data: DataConfig, vocabulary: Vocabulary
) -> None:
    """Check that the encoded text fits on the disk. Raises: DataError, with both sizes."""
    sizes = (chunk.size if data.unit == "byte" else chunk.characters for chunk in new)
    needed = sum(sizes) * vocabulary.dtype.itemsize
    free = shutil.disk_usage(folder).free
    there = sum(path.stat().st_size for path in folder.glob("*.bin"))  # left by a killed start
    if needed > free + there:
        is_cached = folder.is_relative_to(cache_folder())
        variable = "CHARLM_CACHE" if is_cached else "TMPDIR"
        clearing = " (charlm cache --clear makes some)" if is_cached else ""
        most, room = different_sizes(needed, free + there)
        raise DataError(
            f"the encoded text needs {most} of disk, {room} are free in {folder.parent}",
            f"set {variable} to a folder with room{clearing}, or use less text",
        )


def _synced(folder: Path, made: Iterable[Shard]) -> list[Shard]:
    """Collect shards as they are made; a second thread flushes each to disk."""
    shards, under_way = [], []
    with ThreadPoolExecutor(1) as beside:
        for number, shard in enumerate(made):
            shards.append(shard)
            under_way.append(beside.submit(sync, folder, number))
    for one in under_way:
        one.result()
    return shards


def _to_count(chunks: Sequence[Chunk], cutting: Cutting, text: TextStats) -> list[Chunk]:
    """Return the chunks with parts of the train split; of a huge text, an evenly spaced sample."""
    train = [chunk for chunk in chunks if cutting.has_train(chunk)]
    if not text.is_huge or len(train) <= SAMPLED:
        return train
    return [train[number * len(train) // SAMPLED] for number in range(SAMPLED)]


class _Progress:
    """Progress over the chunks of a text, reported in bytes."""

    def __init__(self, total: int, advanced: ProgressCallback) -> None:
        self._done, self._total, self._advanced = 0, total, advanced

    def over(self, chunks: Sequence[Chunk], results: Iterator[Result]) -> Iterator[Result]:
        """Yield the result of each chunk, and report the chunk as done."""
        for chunk, result in zip(chunks, results, strict=True):
            self._done += chunk.size
            self._advanced(self._done, self._total)
            yield result


def _counted(
    chunks: Sequence[Chunk],
    counting: Counting,
    known: Mapping[str, Counted],
    pool: Workers,
    progress: _Progress,
) -> list[Counted]:
    """Count the symbols of chunks, with the counts of an earlier text (`known`) where they fit."""
    sources = [counting.source(chunk) for chunk in chunks]
    new = (chunk for chunk, one in zip(chunks, sources, strict=True) if one not in known)
    counts = pool.map(counting, with_contents(new, counting.cutting.data))
    results = (known[source] if source in known else next(counts) for source in sources)
    return list(progress.over(chunks, results))


def _counter(data: DataConfig, counted: Sequence[Counted]) -> SymbolCounter:
    """Add up the symbol counts of all chunks."""
    counter = SymbolCounter()
    for one in counted:
        counter.merge(one.symbols, one.counts)
    if data.unit == "jamo" or data.normalize == "nfd":
        counter.decompose()
    return counter


def _vocabulary(data: DataConfig, counter: SymbolCounter) -> Vocabulary:
    """Make the vocabulary from symbol counts. Raises: TooRareError."""
    has_end = data.records != "none"
    if data.unit == "byte":
        return BYTES_IN_RECORDS if has_end else BYTES
    symbols = counter.frequent(data.minimum_count)
    if not symbols:
        raise TooRareError(
            f"no character occurs {data.minimum_count} times in the train split",
            "lower data.minimum_count",
        )
    return Vocabulary(data.unit, data.normalize, tuple(symbols), data.unknown, has_end)


def _splits(shards: Sequence[Shard]) -> dict[str, Split]:
    """Add up the shards' symbols, characters and bytes of each split."""
    splits, start = {}, 0
    for number, name in enumerate(SPLITS):
        stop = start + sum(shard.counts[number] for shard in shards)
        totals = [sum(shard.totals[number][at] for shard in shards) for at in range(4)]
        characters, size = shorter((totals[0], totals[1], totals[2], totals[3]))
        unknown: Tally[str] = Tally()
        for shard in shards:
            unknown.update(shard.unknown[number])
        splits[name] = Split(start, stop, characters, size, dict(unknown.most_common()))
        start = stop
    return splits


def _check_records(chunks: Sequence[Chunk], cutting: Cutting, shards: Sequence[Shard]) -> None:
    """Report empty records. Raises: DataError for a split without a record."""
    for number, name in enumerate(SPLITS):
        filled = any(shard.totals[number][1] for shard in shards)
        if not filled and (number == 0 or cutting.data.split[number]):
            raise _no_record_in(name, chunks, cutting)
    if empty := sum(shard.empty for shard in shards):
        log.warning(f"{empty:,} empty records are left out")


def _no_record_in(split: str, chunks: Sequence[Chunk], cutting: Cutting) -> DataError:
    """Read the text again, and make the error for a split without a record."""
    count, empty, distinct = 0, 0, set[Any]()
    for chunk in with_contents(chunks, cutting.data):
        of_chunk = cutting.records(chunk)
        empty += of_chunk.empty
        for records in of_chunk.splits:
            count += len(records)
            if len(distinct) < 2:
                distinct.update(records)
    one = {"lines": "line", "files": "file"}.get(cutting.data.records, "record")
    if not count:
        which = f"all {empty:,} {one}s are" if empty > 1 else f"its only {one} is"
        return DataError(f"the text has nothing to learn from: {which} empty", "use another text")
    fault = f"none of the {count:,} {one}s falls into the {split} split"
    if len(distinct) == 1:
        fault = f"all {count:,} {one}s are alike" if count > 1 else f"the text is a single {one}"
        fault += f", so the {split} split is empty"
    advice = f"use more {one}s, or hold none out: --set data.split=[1,0,0]"
    return EmptySplitError(fault, advice)
