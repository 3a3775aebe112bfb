"""Text files -> splits -> symbols in a memory-mapped file.

Three passes over the files, in blocks, so that memory does not grow with the text: one measures
and fingerprints them, one builds the vocabulary from the train split, one encodes. The result is
kept in the cache under a fingerprint of content and options, so that the next start finds it. A
text that changes between the passes is refused; what is damaged in the cache is made again.
"""

import hashlib
import json
import logging
import shutil
import tempfile
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
from charlm.text.encoding import encode
from charlm.text.splits import Split, TextStats
from charlm.text.symbols import UNFINISHED, SymbolFile, set_aside
from charlm.text.vocabulary import Vocabulary

FORMAT = 1
"""Of the fingerprint; a change would make every earlier run refuse its text."""
YOUNGER = {"records", "separator", "field"}
"""Keys that earlier fingerprints lack: at their defaults they are left out of it."""
LAYOUT = 4
"""Of the files in the cache."""
DESCRIBED, TRIES = "corpus.json", 3
"""Tries: to publish a text, while other processes do so, too."""

log = logging.getLogger(__name__)


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
    options = {
        name: value
        for name, value in data.model_dump(exclude={"path", "sha256"}).items()
        if name not in YOUNGER or value != DataConfig.model_fields[name].default
    }
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
            vocabulary, splits = encode(temporary, data, text)
            _describe(temporary, _Described(fingerprint, vocabulary.to_json(), splits))
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


def _describe(folder: Path, described: _Described) -> None:
    """Write corpus.json, the last file of an encoded text."""
    content = json.dumps(asdict(described)).encode("utf-8")
    write_synced(folder / DESCRIBED, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    sync_folder(folder)
