"""Corpora: text files, split and encoded as symbols in memory-mapped files.

A first pass measures the files, computes their digests, and finds the pieces that can be read
independently. A second one counts the symbols and a third encodes them, chunk by chunk, so that
memory does not grow with the text. The result is cached under a fingerprint of content and options.
A text that changes between the passes is refused; a damaged entry of the cache is made again.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from charlm.common import progress
from charlm.common.errors import CheckpointError, DataError
from charlm.common.files import (
    PRIVATE_FILE,
    cache_folder,
    cannot_write_cache,
    close_cache,
    read_regular,
    replace,
    sweep,
    sync_folder,
    writable,
)
from charlm.config.schema import DataConfig
from charlm.text.cache import drop_unused
from charlm.text.encode import description
from charlm.text.encode.building import EarlierText, ProgressCallback, build
from charlm.text.encode.cutting import ANY_LINE_END
from charlm.text.encode.description import DESCRIBED
from charlm.text.files import sources
from charlm.text.files.measuring import ReadProgress, measure
from charlm.text.remarks import remarks
from charlm.text.splits import Split, TextStats
from charlm.text.stretch import Stretch
from charlm.text.symbols import UNFINISHED, SymbolFile, set_aside
from charlm.text.vocabulary import Vocabulary

FORMAT = 1
"""Version of the fingerprint; a change would make every earlier run refuse its text."""
ADDED_KEYS = {"records", "separator", "field", "encoding"}
"""Keys added later. A fingerprint leaves them out at their defaults, so that it stays the same."""
WITHOUT_EFFECT = {"path", "sha256", "order", "file_limit"}
"""Keys that are left out of the fingerprint: they select files, whose content and order count."""
HUGE_TEXT = "huge"
"""Added to the fingerprints of huge texts, because earlier versions split them differently."""
FINGERPRINT = re.compile("[0-9a-f]{64}")
LAYOUT = 6
"""Version of the layout of the cache's files."""
TRIES = 3
"""Attempts at publishing a text while other processes publish it, too."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Corpus:
    """An encoded text and its splits."""

    vocabulary: Vocabulary
    symbols: SymbolFile
    splits: dict[str, Split]
    fingerprint: str

    @property
    def train(self) -> Split:
        return self.splits["train"]

    def stretch(self, name: str) -> Stretch:
        """Return the stretch of a split: "train", "validation" or "test"."""
        return Stretch(self.symbols, self.splits[name].start, self.splits[name].stop)

    @property
    def evaluated(self) -> str:
        """Name of the split for evaluations: validation, or train if nothing is held out."""
        return "validation" if len(self.splits["validation"]) else "train"


def _report(done: int, total: int) -> None:
    """Report the progress of reading a text."""
    progress.report(f"reading {total / 1e6:,.0f} MB", done, total)


def survey(
    data: DataConfig, *, keep: bool = True, advanced: ProgressCallback = _report
) -> TextStats:
    """Measure and fingerprint the text of `data.path`.

    keep: False leaves the cache unchanged. advanced: progress callback.

    Raises: DataError for a text that is missing or too short to learn from.
    """
    text_files = sources.find(data, progress.count_files)
    files = text_files.files
    digest, measured, reading = hashlib.sha256(), {}, ReadProgress(files, advanced)
    for file in files:
        measured[file] = measure(file, data, keep=keep, advanced=reading.read)
        digest.update(bytes.fromhex(measured[file].digest))
    for remark in remarks(files, data):
        log.warning(remark)
    characters = sum(measured[file].characters for file in files)
    named = str(files[0]) if len(files) == 1 else f"the text in {len(files)} files"
    if characters < 2:
        size = "is empty" if characters == 0 else "has a single character"
        raise DataError(f"{named} {size}", "a model needs at least two characters to learn from")
    return TextStats(tuple(files), measured, characters, digest.hexdigest(), text_files)


def prepare(
    data: DataConfig,
    text: TextStats,
    *,
    keep: bool = True,
    advanced: ProgressCallback = _report,
) -> Corpus:
    """Return the encoded corpus, from the cache if possible.

    If several processes start at once, one encodes the text and the others wait for it.

    keep: False leaves the cache unchanged. advanced: progress callback.

    Raises: DataError for a text that is not UTF-8, an empty split, a full or read-only disk.
    """
    fingerprint = _fingerprint(data, text)
    folder = _folder(fingerprint)
    if keep:
        close_cache()
    if (corpus := _cached(folder, fingerprint)) is not None:
        return corpus
    try:
        if not keep:
            with tempfile.TemporaryDirectory(prefix=UNFINISHED) as name:
                built = build(Path(name), data, text, advanced=advanced)
                description.write(Path(name), fingerprint, built)
                corpus = _open(Path(name), fingerprint)
                corpus.symbols.map_all()  # a mapped file stays readable after it is removed
                return corpus
        writable(folder.parent)
        with _lock(writable(cache_folder() / "locks") / f"{folder.name}.lock"):
            if (corpus := _cached(folder, fingerprint)) is not None:
                return corpus
            _encode(folder, data, text, fingerprint, advanced)
        return _open(folder, fingerprint)
    except OSError as error:
        raise cannot_write_cache(folder.parent, error) from None
    except ValueError as error:
        raise DataError(
            f"the encoded text in {folder} is damaged: {error}",
            "delete that folder; it is made again from the text",
        ) from None


def cached(fingerprint: str) -> Corpus | None:
    """Return the encoded text with a fingerprint from the cache; the text itself is not opened.

    Returns None if the cache has none, or if the string is not a fingerprint.
    """
    if not FINGERPRINT.fullmatch(fingerprint):
        return None
    return _cached(_folder(fingerprint), fingerprint)


def _folder(fingerprint: str) -> Path:
    """Return the cache's folder for an encoded text."""
    return cache_folder() / "corpora" / f"{fingerprint[:24]}-{LAYOUT}"


def _fingerprint(data: DataConfig, text: TextStats) -> str:
    """Return a digest of everything that determines an encoded text."""
    facts = [FORMAT, text.digest, _options(data), *([HUGE_TEXT] if text.is_huge else [])]
    if any(one.varied for one in text.measured.values()):
        facts.append(ANY_LINE_END)
    key = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()


def _options(data: DataConfig) -> dict[str, Any]:
    """Return the options that determine an encoded text."""
    return {
        name: value
        for name, value in data.model_dump(exclude=WITHOUT_EFFECT).items()
        if name not in ADDED_KEYS or value != DataConfig.model_fields[name].default
    }


def _cached(folder: Path, fingerprint: str) -> Corpus | None:
    """Return an encoded text of the cache; None if there is none or it is damaged (logged)."""
    if not folder.is_dir():
        return None
    try:
        corpus = _open(folder, fingerprint)
    except (OSError, ValueError) as error:
        log.warning(f"the encoded text in {folder} is damaged, and is made again: {error}")
        return None
    with contextlib.suppress(OSError):  # the cache may be read-only
        os.utime(folder)  # mark it as used for `drop_unused`
    return corpus


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Wait until no other process encodes the same text."""
    lock = FileLock(path, mode=PRIVATE_FILE)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log.info("another process is encoding this text: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _encode(
    folder: Path, data: DataConfig, text: TextStats, fingerprint: str, advanced: ProgressCallback
) -> None:
    """Encode a text in a folder with a fixed name, so that a killed start can be continued."""
    unfinished = writable(folder.with_name(UNFINISHED + folder.name))
    unfinished.touch()  # so that no other process removes it as abandoned
    sweep(folder.parent, f"{UNFINISHED}*", spared=unfinished)
    drop_unused()
    results = unfinished / "kept"
    latest = cache_folder() / "latest" / _named(data)
    try:
        built = build(
            unfinished, data, text, earlier=_earlier(latest), results=results, advanced=advanced
        )
        shutil.rmtree(results, ignore_errors=True)
        description.write(unfinished, fingerprint, built)
        _publish(unfinished, folder, fingerprint)
        if len(built.shards) > 1:
            replace(writable(latest.parent) / latest.name, folder.name.encode(), private=True)
    except (KeyboardInterrupt, SystemExit):
        if not results.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        raise
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _named(data: DataConfig) -> str:
    """Return a name for the text at these paths that does not depend on its content."""
    key = json.dumps([data.path, _options(data)], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()[:24]


def _earlier(latest: Path) -> EarlierText | None:
    """Return the last encoded text from the same paths, None if it is no longer in the cache."""
    try:
        folder = cache_folder() / "corpora" / Path(read_regular(latest, 100).decode()).name
        if not folder.name.endswith(f"-{LAYOUT}"):
            return None
        return EarlierText(folder, description.read_all(folder))
    except (OSError, ValueError, CheckpointError):
        return None


def _publish(temporary: Path, folder: Path, fingerprint: str) -> None:
    """Move an encoded text to its place in the cache, replacing a damaged one. Raises: OSError."""
    for left in reversed(range(TRIES)):
        try:
            temporary.rename(folder)
            break
        except OSError as error:
            try:
                _open(folder, fingerprint)  # another process has published it
                break
            except (OSError, ValueError):
                set_aside(folder)
                if not left:
                    raise error from None
    sync_folder(folder.parent)


def _open(folder: Path, fingerprint: str) -> Corpus:
    """Open an encoded text. Raises: OSError, ValueError: damaged."""
    described = description.read(folder)
    try:
        vocabulary = Vocabulary.from_json(described.vocabulary)
        count = described.splits["test"].stop
    except (KeyError, CheckpointError) as error:
        raise ValueError(f"{DESCRIBED} cannot be read: {error}") from None
    if described.fingerprint != fingerprint:
        raise ValueError(f"{DESCRIBED} is of another text")
    symbols = SymbolFile(folder, vocabulary.dtype, described.shards)
    if len(symbols) != count:
        raise ValueError(f"{DESCRIBED} lists {count:,} symbols, and there are {len(symbols):,}")
    return Corpus(vocabulary, symbols, described.splits, fingerprint)
