"""Text files -> splits -> symbols in a memory-mapped file.

Three passes over the files, in blocks, so that memory does not grow with the text: one measures
and fingerprints them, one builds the vocabulary from the train split, one encodes. The result is
kept in the cache under a fingerprint of content and options, so that the next start finds it. A
text that changes between the passes is refused; what is damaged in the cache is made again.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections import Counter as Tally
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from charlm.config.schema import DataConfig
from charlm.errors import CheckpointError, DataError
from charlm.files import (
    cache_folder,
    cannot_write_cache,
    read_regular,
    sweep,
    sync_folder,
    writable,
    write_synced,
)
from charlm.text import reading, sources
from charlm.text.reading import Snapshot
from charlm.text.symbols import DIGESTS, UNFINISHED, SymbolFile, SymbolWriter, set_aside
from charlm.text.vocabulary import (
    BYTES,
    SymbolCounter,
    TextSize,
    Vocabulary,
    codes_of,
    is_decomposed,
    unit_codes,
)

FORMAT = 1
"""Of the fingerprint; a change would make every earlier run refuse its text."""
LAYOUT = 4
"""Of the files in the cache."""
DESCRIBED, TRIES = "corpus.json", 3
"""Tries: to publish a text, while other processes do so, too."""
SPLITS = ("train", "validation", "test")

log = logging.getLogger(__name__)


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
    symbols: SymbolFile
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
    """What one quick pass over the files tells. digest: of all their digests."""

    files: tuple[Path, ...]
    digests: dict[Path, bytes]
    characters: int
    digest: str


def survey(data: DataConfig, *, keep: bool = True) -> TextStats:
    """Count and fingerprint the text of `data.path`.

    keep: False leaves the cache as it is.

    Raises: DataError for a text that is missing or too short to learn from.
    """
    files = sources.find(data)
    characters, digest = 0, hashlib.sha256()
    digests: dict[Path, bytes] = {}
    for file in files:
        count, file_digest = reading.measure(file, bom_counts=data.unit == "byte", keep=keep)
        characters += count
        digest.update(file_digest)
        digests[file] = file_digest
    named = str(files[0]) if len(files) == 1 else f"the text in {len(files)} files"
    if characters < 2:
        size = "is empty" if characters == 0 else "has a single character"
        raise DataError(f"{named} {size}", "a model needs at least two characters to learn from")
    return TextStats(tuple(files), digests, characters, digest.hexdigest())


def prepare(data: DataConfig, text: TextStats, *, keep: bool = True) -> Corpus:
    """Return the encoded corpus, from the cache where it holds it.

    keep: False leaves the cache as it is.

    Raises: DataError for a text that is no UTF-8, an empty split, a full or read-only disk.
    """
    options = data.model_dump(exclude={"path", "sha256"})
    key = json.dumps([FORMAT, text.digest, options], sort_keys=True)
    fingerprint = hashlib.sha256(key.encode()).hexdigest()
    folder = cache_folder() / "corpora" / f"{fingerprint[:24]}-{LAYOUT}"
    if folder.is_dir():
        try:
            return _open(folder, fingerprint)
        except (OSError, ValueError) as error:
            log.warning(f"the encoded text in {folder} is damaged, and is made again: {error}")
    parent = writable(folder.parent) if keep else Path(tempfile.gettempdir())
    try:
        sweep(parent, f"{UNFINISHED}*")
        temporary = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=parent))
        try:
            _encode_into(temporary, data, text, fingerprint)
            if not keep:
                return _open(temporary, fingerprint)  # a mapped file outlives its name
            _publish(temporary, folder, fingerprint)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return _open(folder, fingerprint)
    except OSError as error:
        raise cannot_write_cache(parent, error) from None
    except ValueError as error:
        raise DataError(
            f"the encoded text in {folder} is damaged: {error}",
            "delete that folder; it is made again from the text",
        ) from None


def _publish(temporary: Path, folder: Path, fingerprint: str) -> None:
    """Give an encoded text its name in the cache, in the place of a damaged one."""
    for _ in range(TRIES):
        try:
            temporary.rename(folder)
            break
        except OSError:
            try:
                _open(folder, fingerprint)  # another process was quicker
                break
            except (OSError, ValueError):
                set_aside(folder)
    sync_folder(folder.parent)


@dataclass(frozen=True)
class _Described:
    """What corpus.json holds."""

    fingerprint: str
    vocabulary: dict[str, Any]
    splits: dict[str, Split]


_described = TypeAdapter(_Described)


def _open(folder: Path, fingerprint: str) -> Corpus:
    """Open an encoded text. Raises: OSError, ValueError: damaged."""
    content = read_regular(folder / DESCRIBED)
    digest, _, text = content.partition(b"\n")
    if digest.decode("ascii", "replace") != hashlib.sha256(text).hexdigest():
        raise ValueError(f"the SHA-256 of {DESCRIBED} is not the one that was written")
    try:
        described = _described.validate_json(text)
        vocabulary = Vocabulary.from_json(described.vocabulary)
        count = described.splits["test"].stop
    except (ValidationError, KeyError, CheckpointError) as error:
        raise ValueError(f"{DESCRIBED} cannot be read: {error}") from None
    if described.fingerprint != fingerprint:
        raise ValueError(f"{DESCRIBED} is of another text")
    symbols = SymbolFile(folder, vocabulary.dtype, count)
    return Corpus(vocabulary, symbols, described.splits, fingerprint)


def _encode_into(folder: Path, data: DataConfig, text: TextStats, fingerprint: str) -> None:
    ends = _split_ends(data, text.characters)
    snapshot = Snapshot(text.digests)
    vocabulary = _build_vocabulary(data, text, ends, snapshot)
    splits: dict[str, Split] = {}
    start = 0
    out = SymbolWriter(folder)
    try:
        pieces_of = reading.by_split(text.files, data, ends, snapshot)
        for name, pieces in zip(SPLITS, pieces_of, strict=True):
            splits[name] = _encode_split(pieces, vocabulary, data, out, start)
            start = splits[name].stop
        file, digests = out.finish()
        file.flush()
        os.fsync(file.fileno())
    finally:
        out.close()
    described = _Described(fingerprint, vocabulary.to_json(), splits)
    content = json.dumps(asdict(described)).encode("utf-8")
    write_synced(folder / DIGESTS, digests)
    write_synced(folder / DESCRIBED, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    sync_folder(folder)


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


def _build_vocabulary(
    data: DataConfig, text: TextStats, ends: tuple[int, int, int], snapshot: Snapshot
) -> Vocabulary:
    if data.unit == "byte":
        return BYTES
    counter, normalize = SymbolCounter(), data.normalize
    pieces = next(reading.by_split(text.files, data, ends, snapshot))
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
    out: SymbolWriter,
    start: int,
) -> Split:
    """Encode the pieces of a split and write its symbols, all below the vocabulary's size."""
    size, count = TextSize(vocabulary), 0
    unknown: Tally[str] = Tally()
    for piece in reading.normalizable(pieces, data):
        indices = vocabulary.encode(piece)
        assert not indices.size or int(indices.max()) < len(vocabulary)
        out.write(indices)
        count += indices.size
        size.add(piece)
        if isinstance(piece, str) and (not vocabulary.has_unknown or vocabulary.unknown in indices):
            unknown.update(vocabulary.unknown_in(piece))
    found = dict(unknown.most_common())
    return Split(start, start + count, size.characters, size.bytes, found)
