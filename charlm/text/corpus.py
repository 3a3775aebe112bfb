"""Text files -> splits -> symbols in a memory-mapped file.

Three passes over the files, in blocks, so that memory does not grow with the text: one measures
and fingerprints them, one builds the vocabulary from the train split, one encodes. The result is
kept in the cache under a fingerprint of content and options, so that the next start finds it.

A start reads none of the symbols: they were in bounds when they were encoded, and the file's digest
is computed again only where its size or time of change is not as it was left.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from charlm.config.schema import DataConfig
from charlm.errors import CheckpointError, DataError
from charlm.files import cache_folder, replace, writable, write_synced
from charlm.text import reading, sources
from charlm.text.vocabulary import (
    BYTES,
    SymbolCounter,
    Symbols,
    Vocabulary,
    codes_of,
    is_decomposed,
    unit_codes,
)

FORMAT = 1
"""Of the fingerprint; a change would make every earlier run refuse its text."""
LAYOUT = 2
"""Of the files in the cache."""
SYMBOLS, DESCRIBED, CHECKED = "symbols.bin", "corpus.json", "checked.json"

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """A stretch of the corpus.

    start, stop: its symbols' positions. characters, bytes: its size in code points and UTF-8 bytes,
    of the source text or of the form it is normalised to, whichever is shorter. unknown: how often
    each symbol in it is one that the vocabulary lacks.
    """

    start: int
    stop: int
    characters: int
    bytes: int
    unknown: dict[str, int]

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Corpus:
    """An encoded text: `symbols[split.start:split.stop]` are those of one split."""

    vocabulary: Vocabulary
    symbols: Symbols
    splits: dict[str, Split]
    fingerprint: str

    @property
    def train(self) -> Split:
        return self.splits["train"]

    @property
    def evaluated(self) -> str:
        """The split that training is judged by: validation, or train where nothing is held out."""
        return "validation" if len(self.splits["validation"]) else "train"


@dataclass(frozen=True)
class TextStats:
    """What one quick pass over the files tells."""

    files: tuple[Path, ...]
    characters: int
    digest: str


def survey(data: DataConfig, *, keep: bool = True) -> TextStats:
    """Count and fingerprint the text of `data.path`.

    keep: False leaves the cache as it is.

    Raises: DataError for a text that is missing or too short to learn from.
    """
    files = sources.find(data)
    characters, digest = 0, hashlib.sha256()
    for file in files:
        count, file_digest = reading.measure(file, bom_counts=data.unit == "byte", keep=keep)
        characters += count
        digest.update(file_digest)
    named = str(files[0]) if len(files) == 1 else f"the text in {len(files)} files"
    if characters < 2:
        size = "is empty" if characters == 0 else "has a single character"
        raise DataError(f"{named} {size}", "a model needs at least two characters to learn from")
    return TextStats(tuple(files), characters, digest.hexdigest())


def prepare(data: DataConfig, text: TextStats, *, keep: bool = True) -> Corpus:
    """Return the encoded corpus, from the cache where it holds it.

    keep: False leaves the cache as it is.

    Raises: DataError for a text that is no UTF-8, an empty split, a full or read-only disk.
    """
    options = data.model_dump(exclude={"path", "sha256"})
    key = json.dumps([FORMAT, text.digest, options], sort_keys=True)
    fingerprint = hashlib.sha256(key.encode()).hexdigest()
    folder = cache_folder() / "corpora" / f"{fingerprint[:24]}-{LAYOUT}"
    if (folder / DESCRIBED).is_file():
        return _open(folder)
    parent = writable(folder.parent) if keep else Path(tempfile.gettempdir())
    try:
        temporary = Path(tempfile.mkdtemp(prefix=".encoding-", dir=parent))
        try:
            _encode_into(temporary, data, text, fingerprint)
            if not keep:
                return _open(temporary)  # a mapped file outlives its name
            _publish(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"cannot write the encoded text to {parent}: {error.strerror}",
            "set CHARLM_CACHE to a folder with room that you can write to",
        ) from None
    return _open(folder)


def _publish(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError:
        if not (folder / DESCRIBED).is_file():  # else another process was quicker
            raise


def _open(folder: Path) -> Corpus:
    try:
        described = json.loads((folder / DESCRIBED).read_text(encoding="utf-8"))
        vocabulary = Vocabulary.from_json(described["vocabulary"])
        splits = {name: Split(**value) for name, value in described["splits"].items()}
        _check(folder, described["sha256"])
        symbols = np.memmap(folder / SYMBOLS, vocabulary.dtype, mode="r")
        if symbols.size != splits["test"].stop:
            raise ValueError(f"{symbols.size:,} symbols instead of {splits['test'].stop:,}")
    except (OSError, ValueError, KeyError, TypeError, CheckpointError) as error:
        raise DataError(
            f"the encoded text in {folder} is damaged: {error}",
            "delete that folder; it is made again from the text",
        ) from None
    return Corpus(vocabulary, symbols, splits, described["fingerprint"])


def _check(folder: Path, digest: str) -> None:
    """Compare the symbols with their digest, unless size and time of change are those of the last
    check. Raises: ValueError where they are not what was encoded."""
    stamp = _stamp(folder)
    try:
        if json.loads((folder / CHECKED).read_text(encoding="ascii")) == stamp:
            return
    except (OSError, ValueError):
        pass
    with (folder / SYMBOLS).open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
            raise ValueError(f"the SHA-256 of {SYMBOLS} is not the one that was written")
    with contextlib.suppress(OSError):  # a cache that is read-only is checked every time
        replace(folder / CHECKED, json.dumps(stamp).encode())


def _stamp(folder: Path) -> list[int]:
    status = (folder / SYMBOLS).stat()
    return [status.st_size, status.st_mtime_ns]


def _encode_into(folder: Path, data: DataConfig, text: TextStats, fingerprint: str) -> None:
    ends = _split_ends(data, text.characters)
    vocabulary = _build_vocabulary(data, text, ends)
    splits: dict[str, Split] = {}
    start = 0
    digest = hashlib.sha256()
    with (folder / SYMBOLS).open("wb") as out:

        def write(block: bytes) -> None:
            digest.update(block)
            out.write(block)

        for name, pieces in zip(SPLITS, reading.by_split(text.files, data, ends), strict=True):
            splits[name] = _encode_split(pieces, vocabulary, data, write, start)
            start = splits[name].stop
        out.flush()
        os.fsync(out.fileno())
    described = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "sha256": digest.hexdigest(),
        "vocabulary": vocabulary.to_json(),
        "splits": {name: asdict(split) for name, split in splits.items()},
    }
    write_synced(folder / CHECKED, json.dumps(_stamp(folder)).encode())
    write_synced(folder / DESCRIBED, json.dumps(described).encode("utf-8"))


def _split_ends(data: DataConfig, characters: int) -> tuple[int, int, int]:
    """Return the character at which each split ends."""
    train, validation, test = data.split
    limit = data.held_out_limit or characters
    train_end = int(characters * train + 1e-6)
    validation_end = int(characters * (train + validation) + 1e-6)
    test_size = min(characters - validation_end if test else 0, limit)
    validation_size = min(validation_end - train_end if validation else 0, limit)
    for name, share, size in (
        ("validation", validation, validation_size),
        ("test", test, test_size),
    ):
        if share and not size:
            raise DataError(
                f"{share:g} of {characters:,} characters leaves the {name} split empty",
                f"use a longer text, or a split such as {[1.0, 0.0, 0.0]} without one",
            )
    train_end = characters - validation_size - test_size
    if train_end < 2:
        raise DataError(
            f"{characters:,} characters leave {train_end} to train on", "use a longer text"
        )
    return train_end, characters - test_size, characters


def _build_vocabulary(data: DataConfig, text: TextStats, ends: tuple[int, int, int]) -> Vocabulary:
    if data.unit == "byte":
        return BYTES
    counter, normalize = SymbolCounter(), data.normalize
    pieces = next(reading.by_split(text.files, data, ends))
    decompose = is_decomposed(data.unit, normalize)
    for piece in pieces if decompose else reading.normalizable(pieces, data):
        assert isinstance(piece, str)
        counter.add(codes_of(piece) if decompose else unit_codes(piece, data.unit, normalize))
    if decompose:
        counter.decompose()
    kept = counter.kept(data.minimum_count)
    if not kept:
        raise DataError(
            f"no character occurs {data.minimum_count} times in the train split",
            "lower data.minimum_count",
        )
    return Vocabulary(data.unit, data.normalize, tuple(kept), data.unknown)


def _encode_split(
    pieces: Iterator[str | bytes],
    vocabulary: Vocabulary,
    data: DataConfig,
    write: Callable[[bytes], object],
    start: int,
) -> Split:
    """Encode the pieces of a split and write its symbols, all below the vocabulary's size."""
    characters = size = count = 0
    unknown: Tally[str] = Tally()
    for piece in reading.normalizable(pieces, data):
        indices = vocabulary.encode(piece)
        assert not indices.size or int(indices.max()) < len(vocabulary)
        write(indices.tobytes())
        count += indices.size
        length, encoded = vocabulary.size_of(piece)
        characters, size = characters + length, size + encoded
        if isinstance(piece, str) and (not vocabulary.has_unknown or vocabulary.unknown in indices):
            unknown.update(vocabulary.unknown_in(piece))
    return Split(start, start + count, characters, size, dict(unknown.most_common()))
