"""Files as pieces of text: in blocks, cut at the splits, normalisable one by one."""

import codecs
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from charlm.config.schema import DataConfig
from charlm.errors import DataError
from charlm.files import cache_folder, writable

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
        raise DataError(f"cannot read {file}: {error.strerror}", "check its permissions") from None


def measure(file: Path, *, bom_counts: bool, keep: bool) -> tuple[int, bytes]:
    """Measure a file's length in characters and its SHA-256.

    A character is a byte that does not continue a UTF-8 sequence. Both are remembered in the
    cache by path, size and time of change, as git's index does.
    """
    status = file.stat()
    identity = json.dumps([str(file), status.st_size, status.st_mtime_ns, bom_counts])
    memory = cache_folder() / "files" / hashlib.sha256(identity.encode()).hexdigest()[:24]
    if memory.is_file():
        count, digest = memory.read_text(encoding="ascii").split()
        return int(count), bytes.fromhex(digest)
    characters, hasher, first = 0, hashlib.sha256(), True
    for block in _blocks(file):
        hasher.update(block)
        characters += characters_in(block)
        if first and block.startswith(codecs.BOM_UTF8) and not bom_counts:
            characters -= 1
        first = False
    if keep and status.st_size > BLOCK:
        writable(memory.parent)
        memory.write_text(f"{characters} {hasher.hexdigest()}", encoding="ascii")
    return characters, hasher.digest()


def characters_in(block: bytes) -> int:
    """Count the code points of UTF-8 text: the bytes that do not continue a sequence."""
    if block.isascii():
        return len(block)
    return int(np.count_nonzero(_starts(block)))


def _starts(block: bytes) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Tell which bytes begin a character in UTF-8."""
    result: np.ndarray[Any, np.dtype[np.bool_]] = (np.frombuffer(block, np.uint8) & 0xC0) != 0x80
    return result


def _texts(files: Iterable[Path]) -> Iterator[str]:
    """Decode the files, block by block, without byte order marks."""
    for file in files:
        decoder = codecs.getincrementaldecoder("utf-8")()
        position, first = 0, True
        for block in itertools.chain(_blocks(file), [b""]):
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


def by_split(
    files: Iterable[Path], data: DataConfig, ends: tuple[int, int, int]
) -> Iterator[Iterator[str | bytes]]:
    """Yield an iterator of its pieces for each split; each must be used up before the next."""
    if data.unit == "byte":
        pieces: Iterator[str | bytes] = (block for file in files for block in _blocks(file))
    else:
        pieces = iter(_texts(files))
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


def normalizable(pieces: Iterator[str | bytes], data: DataConfig) -> Iterator[str | bytes]:
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
