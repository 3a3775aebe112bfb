"""Files as pieces of text: in blocks, cut at the splits, normalisable one by one."""

import codecs
import contextlib
import hashlib
import itertools
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from charlm.config.schema import DataConfig
from charlm.errors import DataError
from charlm.files import cache_folder, read_regular, replace, writable
from charlm.text.vocabulary import Vocabulary

BLOCK = 1 << 20
"""Bytes read at a time: enough for full speed, few enough to stay in the processor's cache."""

# Characters that never combine with the one before them, so that a text may be cut there and
# normalised in pieces. The common scripts' letters are enough: one of them is always near.
SAFE_TO_CUT_BEFORE = re.compile("[\0-\x7f\u0400-\u0482\u3041-\u3096\u4e00-\u9fff\uac00-\ud7a3]")


def _blocks(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as stream:
            while block := stream.read(BLOCK):
                yield block
    except OSError as error:
        raise cannot_read(file, error) from None


RACY = 2_000_000_000
"""Nanoseconds within which a file's time of change may not tell two changes apart."""


def measure(file: Path, *, bom_counts: bool, keep: bool) -> tuple[int, bytes]:
    """Measure a file's length in characters and its SHA-256.

    A character is a byte that does not continue a UTF-8 sequence. Both are remembered in the
    cache by path, size and time of change, as git's index does.
    """
    memory = _memory(file, bom_counts)
    try:
        count, digest, check = read_regular(memory, 200).decode("ascii").split()
        if check == _check(count, digest):
            return int(count), bytes.fromhex(digest)
    except (OSError, ValueError):  # none, or torn: measured again
        pass
    characters, hasher, first = 0, hashlib.sha256(), True
    for block in _blocks(file):
        hasher.update(block)
        characters += characters_in(block)
        if first and block.startswith(codecs.BOM_UTF8) and not bom_counts:
            characters -= 1
        first = False
    digest = hasher.hexdigest()
    if keep and _is_settled(file) and memory == _memory(file, bom_counts):
        content = f"{characters} {digest} {_check(str(characters), digest)}".encode("ascii")
        with contextlib.suppress(OSError):  # two processes may do so at once: either is right
            replace(writable(memory.parent) / memory.name, content)
    return characters, hasher.digest()


def _is_settled(file: Path) -> bool:
    """Tell whether a file is worth remembering, and would show another time once it changes."""
    try:
        status = file.stat()
    except OSError as error:
        raise cannot_read(file, error) from None
    return status.st_size > BLOCK and time.time_ns() - status.st_mtime_ns > RACY


def _check(count: str, digest: str) -> str:
    """Return the checksum of what is remembered."""
    return hashlib.sha256(f"{count} {digest}".encode()).hexdigest()[:16]


def _memory(file: Path, bom_counts: bool) -> Path:
    """Return where a file's measure is remembered, for as long as it stays as it is."""
    try:
        status = file.stat()
    except OSError as error:
        raise cannot_read(file, error) from None
    identity = json.dumps([str(file), status.st_size, status.st_mtime_ns, bom_counts])
    return cache_folder() / "files" / hashlib.sha256(identity.encode()).hexdigest()[:24]


class Snapshot:
    """Reads files whose content was measured, several times over; a change is found, however the
    files' times look: every block must be what it was in an earlier pass, every whole file must
    have the digest that was measured.

    digests: the SHA-256 of each file.
    """

    def __init__(self, digests: Mapping[Path, bytes]) -> None:
        self._digests = digests
        self._seen: dict[tuple[Path, int], bytes] = {}

    def blocks(self, file: Path) -> Iterator[bytes]:
        """Yield the blocks of a file. Raises: DataError: it cannot be read, or has changed."""
        whole = hashlib.sha256()
        for number, block in enumerate(_blocks(file)):
            whole.update(block)
            found = hashlib.blake2b(block, digest_size=16).digest()
            if self._seen.setdefault((file, number), found) != found:
                raise _has_changed(file)
            yield block
        if whole.digest() != self._digests[file]:
            raise _has_changed(file)


def _has_changed(file: Path) -> DataError:
    for bom_counts in (False, True):  # or a measure that is no longer true would be used for ever
        with contextlib.suppress(OSError):
            _memory(file, bom_counts).unlink()
    return DataError(
        f"{file} has changed while it was being read",
        "run the same command again, once nothing writes to it",
    )


def cannot_read(path: Path | str, error: OSError) -> DataError:
    """Make the error for a file or folder that cannot be read."""
    return DataError(f"cannot read {path}: {error.strerror}", "check the path and its permissions")


def characters_in(block: bytes) -> int:
    """Count the code points of UTF-8 text: the bytes that do not continue a sequence."""
    if block.isascii():
        return len(block)
    return int(np.count_nonzero(_starts(block)))


def _starts(block: bytes) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Tell which bytes begin a character in UTF-8."""
    result: np.ndarray[Any, np.dtype[np.bool_]] = (np.frombuffer(block, np.uint8) & 0xC0) != 0x80
    return result


def _texts(files: Iterable[Path], snapshot: Snapshot) -> Iterator[str]:
    """Decode the files, block by block, without byte order marks."""
    for file in files:
        decoder = codecs.getincrementaldecoder("utf-8")()
        position, first = 0, True
        for block in itertools.chain(snapshot.blocks(file), [b""]):
            held = len(decoder.getstate()[0])
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{file} is not UTF-8 at byte {position - held + error.start}",
                    "convert it (iconv -t UTF-8), or take bytes: --set data.unit=byte",
                ) from None
            position += len(block)
            if first and text:
                text, first = text.removeprefix("\ufeff"), False
            if text:
                yield text


def pieces_of(files: Iterable[Path], data: DataConfig, snapshot: Snapshot) -> Iterator[str | bytes]:
    """Yield the files as one text in pieces. Raises: DataError: they have changed; not UTF-8."""
    if data.unit == "byte":
        return (block for file in files for block in snapshot.blocks(file))
    return iter(_texts(files, snapshot))


def by_split(
    files: Iterable[Path], data: DataConfig, ends: tuple[int, int, int], snapshot: Snapshot
) -> Iterator[Iterator[str | bytes]]:
    """Yield an iterator of its pieces for each split; each must be used up before the next."""
    pieces = pieces_of(files, data, snapshot)
    rest: str | bytes | None = None
    seen = 0

    def until(end: int) -> Iterator[str | bytes]:
        nonlocal rest, seen
        while piece := rest or next(pieces, None):
            cut = len(piece) if end == ends[-1] else _offset(piece, end - seen)
            head, rest = piece[:cut], piece[cut:]
            if head:
                seen += len(head) if isinstance(head, str) else characters_in(head)
                yield head
            if rest:
                return

    for end in ends:
        yield until(end)


def _offset(piece: str | bytes, characters: int) -> int:
    """Find where the first `characters` characters of a piece end."""
    if isinstance(piece, str) or piece.isascii():
        return min(len(piece), characters)
    starts = np.flatnonzero(_starts(piece))
    return int(starts[characters]) if characters < starts.size else len(piece)


def normalizable(
    pieces: Iterable[str | bytes], data: DataConfig | Vocabulary
) -> Iterator[str | bytes]:
    """Cut a text into pieces that may be normalised one by one."""
    if data.unit == "byte" or (data.unit == "char" and data.normalize == "none"):
        yield from pieces
        return
    held = ""
    for piece in pieces:
        assert isinstance(piece, str)
        held += piece
        tail = len(held) - 1
        while tail > 0 and not SAFE_TO_CUT_BEFORE.match(held, tail):
            tail -= 1
        if tail > 0:
            yield held[:tail]
            held = held[tail:]
    if held:
        yield held
