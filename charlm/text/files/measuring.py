"""Measurement of a file in one pass: its digest, length, and pieces that can be read separately."""

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from charlm.common.files import (
    cache_folder,
    read_regular,
    replace,
    with_digest,
    without_digest,
    writable,
)
from charlm.text.files import objects
from charlm.text.files.compressed import BLOCK, blocks, cannot_read, is_compressed, suffix_inside
from charlm.text.files.decoding import utf8_blocks
from charlm.text.files.separators import Separator

if TYPE_CHECKING:
    from charlm.config.schema import DataConfig

PIECE = 8 << 20
"""Bytes of a piece: large enough to occupy a process, small enough to hold several in memory."""
LARGEST_MEMORY = 1 << 26
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# The UTF-8 of characters that never combine with the one before them, so that a text may be cut
# there and normalised in pieces: those of `reading.SAFE_TO_CUT_BEFORE`.
SAFE = re.compile(
    rb"[\0-\x7f]|[\xd0\xd1][\x80-\xbf]|\xd2[\x80-\x82]"
    rb"|\xe3\x81[\x81-\xbf]|\xe3\x82[\x80-\x96]|\xe4[\xb8-\xbf][\x80-\xbf]"
    rb"|[\xe5-\xe9][\x80-\xbf][\x80-\xbf]|\xea[\xb0-\xbf][\x80-\xbf]"
    rb"|[\xeb\xec][\x80-\xbf][\x80-\xbf]|\xed[\x80-\x9d][\x80-\xbf]|\xed\x9e[\x80-\xa3]"
)


@dataclass(frozen=True)
class Piece:
    """A part of a file that can be decoded, normalised and cut into records by itself.

    start, stop: in bytes of the file's content, decompressed and in UTF-8 (Parquet: numbers of row
    groups). characters: of its text. digest: its SHA-256, in hexadecimal. last: True if the file
    ends there. size: in bytes that are read (Parquet: of its texts in UTF-8, one per line).
    in_place: True if it can be read without the bytes before it.
    """

    start: int
    stop: int
    characters: int
    digest: str
    last: bool
    size: int
    in_place: bool = True


@dataclass(frozen=True)
class Measured:
    """The measurement of a file. digest: the SHA-256 of its content, in hexadecimal.

    separators: number of separators of records. varied: True if one of them has other line ends
    than `data.separator`.
    """

    digest: str
    pieces: tuple[Piece, ...]
    separators: int = 0
    varied: bool = False

    @property
    def characters(self) -> int:
        """Number of characters of its text."""
        return sum(piece.characters for piece in self.pieces)


RACY = 2_000_000_000
"""Nanoseconds within which two changes of a file may leave the same time of change."""
HAS_CHANGE_TIME = os.name == "posix"
"""True if a file's `st_ctime` is the last change of its inode. On Windows it is the time of
creation: nothing shows that another text has replaced a file, so measurements are not cached.
"""


def measure(
    file: Path,
    data: "DataConfig",
    *,
    keep: bool,
    advanced: Callable[[int], object] = lambda _: None,
) -> Measured:
    """Measure a file. The result is cached by path, device, inode, size and both times of change,
    as in git's index: `mv`, `cp -p`, rsync and tar can give a file another's size and mtime.

    advanced: called with the number of bytes read since the last call, of the file as it is stored.

    Raises: DataError.
    """
    memory = _memory(file, data)
    try:
        measured = _recalled(read_regular(memory, LARGEST_MEMORY))
    except (OSError, ValueError, TypeError):  # missing or damaged: measure again
        pass
    else:
        advanced(file.stat().st_size)
        return measured
    if data.field and suffix_inside(file) == objects.PARQUET:
        measured = _measure_parquet(file, data, advanced)
    else:
        measured = _measure(file, data, advanced)
    if keep and _is_settled(file) and memory == _memory(file, data):
        body = json.dumps(astuple(measured)).encode()
        with contextlib.suppress(OSError):  # two processes may write at once: either is right
            replace(writable(memory.parent) / memory.name, with_digest(body), private=True)
    return measured


def forget(file: Path, data: "DataConfig") -> None:
    """Remove an outdated measurement from the cache."""
    with contextlib.suppress(OSError):
        _memory(file, data).unlink()


def _recalled(content: bytes) -> Measured:
    """Parse a cached measurement. Raises: ValueError, TypeError if it is damaged."""
    digest, pieces, *rest = json.loads(without_digest(content))
    return Measured(digest, tuple(Piece(*piece) for piece in pieces), *rest)


def _is_settled(file: Path) -> bool:
    """Return True if a measurement is worth caching, and a later change would alter the times."""
    if not HAS_CHANGE_TIME:
        return False
    try:
        status = file.stat()
    except OSError as error:
        raise cannot_read(file, error) from None
    return status.st_size > BLOCK and time.time_ns() - status.st_ctime_ns > RACY


def _memory(file: Path, data: "DataConfig") -> Path:
    """Return the cache's path of a file's measurement; it differs once the file has changed."""
    try:
        status = file.stat()
    except OSError as error:
        raise cannot_read(file, error) from None
    how = [
        data.encoding,
        data.unit,
        data.normalize,
        data.records,
        data.separator,
        data.field,
        PIECE,
    ]
    place = [str(file), status.st_dev, status.st_ino]
    identity = json.dumps([*place, status.st_size, status.st_mtime_ns, status.st_ctime_ns, *how])
    return cache_folder() / "files" / hashlib.sha256(identity.encode()).hexdigest()[:24]


class _Pieces:
    """The pieces of a file that is read in blocks."""

    def __init__(self, file: Path, data: "DataConfig", *, in_place: bool) -> None:
        self._file, self._data, self.borders = file, data, Borders(data)
        self._in_place = in_place
        self._hasher, self._start, self._stop, self._characters = hashlib.sha256(), 0, 0, 0
        self._held: list[bytes] = []
        self.complete: list[Piece] = []

    def add(self, block: bytes) -> None:
        """Take the next block."""
        if self._stop == 0 and self._data.unit != "byte" and block.startswith(BYTE_ORDER_MARK):
            self._characters -= 1
        border = self.borders.last_in(block)
        if border and self._stop + border - self._start >= PIECE:
            self._extend(block[:border])
            self.end(last=False)
            block = block[border:]
        self._extend(block)

    def _extend(self, content: bytes) -> None:
        self._hasher.update(content)
        self._stop += len(content)
        if self._data.field:
            self._held.append(content)  # its characters are counted once it is parsed
        else:
            self._characters += characters_in(content)

    def end(self, *, last: bool) -> None:
        """End a piece."""
        if self._data.field:
            content = b"".join(self._held)
            texts = objects.from_json_lines(self._file, content, self._data, self._start)
            self._characters, self._held = sum(len(text) + 1 for text in texts), []
        digest, size = self._hasher.hexdigest(), self._stop - self._start
        place = self._start, self._stop
        self.complete.append(Piece(*place, self._characters, digest, last, size, self._in_place))
        self._hasher, self._start, self._characters = hashlib.sha256(), self._stop, 0


def _measure(file: Path, data: "DataConfig", advanced: Callable[[int], object]) -> Measured:
    if data.field:
        objects.refuse_others(file)
    stream, is_plain = utf8_blocks(file, data, advanced)
    pieces = _Pieces(file, data, in_place=is_plain and not is_compressed(file))
    whole = hashlib.sha256()
    with ThreadPoolExecutor(1) as beside:  # starts its thread with the first task
        for number, block in enumerate(stream):
            # Both digests of the same bytes at once: two cores, and hashing holds no lock.
            if not number and len(block) < BLOCK:
                whole.update(block)
                pieces.add(block)
            else:
                under_way = beside.submit(whole.update, block)
                pieces.add(block)
                under_way.result()
    pieces.end(last=True)
    borders = pieces.borders
    return Measured(whole.hexdigest(), tuple(pieces.complete), borders.separators, borders.varied)


def _measure_parquet(file: Path, data: "DataConfig", advanced: Callable[[int], object]) -> Measured:
    whole = hashlib.sha256()
    for block in blocks(file, advanced):
        whole.update(block)
    pieces = []
    groups = objects.row_groups(file)
    for number in range(groups):
        texts = objects.from_row_group(file, number, data)
        characters, digest = sum(len(text) + 1 for text in texts), objects.digest(texts)
        size = sum(len(text.encode("utf-8")) + 1 for text in texts)
        last = number == groups - 1
        pieces.append(Piece(number, number + 1, characters, digest, last, size))
    return Measured(whole.hexdigest(), tuple(pieces))


class Borders:
    """The places where a file may be cut. separators, varied: as in `Measured`."""

    def __init__(self, data: "DataConfig") -> None:
        self._find: Callable[[bytes], int] = _character_border
        self._separator, self._carry = Separator(data.separator), b""
        self.separators, self.varied = 0, False
        if data.field or data.records == "lines":
            self._find = lambda block: block.rfind(b"\n") + 1
        elif data.records == "separator":
            self._find = self._separator_end
        elif data.records == "files":
            self._find = lambda block: 0
        elif data.unit == "byte":
            self._find = len
        elif data.unit == "jamo" or data.normalize != "none":
            self._find = _safe_border

    def last_in(self, block: bytes) -> int:
        """Return the last place in the next block where a piece may end; 0: nowhere."""
        return self._find(block)

    def _separator_end(self, block: bytes) -> int:
        """Find the end of a block's last separator. The search goes from left to right, because
        separators may overlap."""
        content = self._carry + block
        *parts, rest = self._separator.split(content)
        self.separators += len(parts)
        self.varied = self.varied or self._separator.is_varied(content)
        overlap = self._separator.longest(content) - 1
        self._carry = rest[max(0, len(rest) - overlap) :] if overlap else b""
        return len(block) - len(rest) if parts else 0


def _character_border(block: bytes) -> int:
    """Return the start of the last character, as it may continue in the next block; the block's end
    if that is ASCII; 0 if no character begins in the last bytes."""
    if block[-1] < 0x80:
        return len(block)
    for back in range(1, min(4, len(block)) + 1):
        if block[-back] >= 0xC0:
            return len(block) - back
    return 0


def _safe_border(block: bytes) -> int:
    """Return the start of the last character that never combines with the one before it."""
    size = 4096
    while True:
        begin = max(0, len(block) - size)
        starts = [match.start() for match in SAFE.finditer(block, begin)]
        if starts and starts[-1] > 0:
            return starts[-1]
        if not begin:
            return 0
        size *= 16


def characters_in(block: bytes) -> int:
    """Count the code points of UTF-8 text: the bytes that do not continue a sequence."""
    return len(block) if block.isascii() else int(np.count_nonzero(starts(block)))


def starts(block: bytes) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return a mask of the bytes that begin a character in UTF-8."""
    result: np.ndarray[Any, np.dtype[np.bool_]] = (np.frombuffer(block, np.uint8) & 0xC0) != 0x80
    return result


class ReadProgress:
    """Progress of reading files, in bytes."""

    def __init__(self, files: Iterable[Path], advanced: Callable[[int, int], object]) -> None:
        self._done, self._advanced = 0, advanced
        self._total = sum(file.stat().st_size for file in files)

    def read(self, size: int) -> None:
        """Report `size` more bytes as read."""
        self._done += size
        self._advanced(self._done, max(self._total, self._done))
