"""One pass over a file: its digest, its length, and the pieces that it may be read in."""

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
from typing import Any

import numpy as np

from charlm.config.schema import DataConfig
from charlm.files import cache_folder, read_regular, replace, with_digest, without_digest, writable
from charlm.text import objects
from charlm.text.compressed import BLOCK, blocks, cannot_read, is_compressed, suffix_inside
from charlm.text.decoding import utf8_blocks
from charlm.text.separators import Separator

PIECE = 8 << 20
"""Bytes of a piece: large enough to be worth a process's while, small enough to hold several."""
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

    start, stop: in bytes of what is in the file, decompressed and in UTF-8 (Parquet: numbers of row
    groups). characters: of its text. digest: its SHA-256, in hexadecimal. last: whether the file
    ends there. size: in bytes of what is read of it (Parquet: of its texts in UTF-8, a line's end
    behind each). in_place: whether it can be read without what stands before it.
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
    """What a pass over a file tells. digest: the SHA-256 of what is in it, in hexadecimal.
    separators: how many separators of records it has. varied: whether one of them has other line
    ends than `data.separator`."""

    digest: str
    pieces: tuple[Piece, ...]
    separators: int = 0
    varied: bool = False

    @property
    def characters(self) -> int:
        """How many characters its text has."""
        return sum(piece.characters for piece in self.pieces)


RACY = 2_000_000_000
"""Nanoseconds within which a file's time of change may not tell two changes apart."""
HAS_CHANGE_TIME = os.name == "posix"
"""Whether a file's `st_ctime` is when its inode last changed: where it is not (on Windows it is the
time of creation), nothing shows that another text has taken a file's place, and none is remembered.
"""


def measure(
    file: Path, data: DataConfig, *, keep: bool, advanced: Callable[[int], object] = lambda _: None
) -> Measured:
    """Measure a file, and remember it in the cache by path, device, inode, size and both times of
    change, as git's index does: `mv`, `cp -p`, rsync and tar give a file another's size and mtime.

    advanced: is told how many more bytes of the file itself, compressed or not, are done.

    Raises: DataError.
    """
    memory = _memory(file, data)
    try:
        found = _recalled(read_regular(memory, LARGEST_MEMORY))
    except (OSError, ValueError, TypeError):  # none, or torn: measured again
        pass
    else:
        advanced(file.stat().st_size)
        return found
    if data.field and suffix_inside(file) == objects.PARQUET:
        found = _measure_parquet(file, data, advanced)
    else:
        found = _measure(file, data, advanced)
    if keep and _is_settled(file) and memory == _memory(file, data):
        body = json.dumps(astuple(found)).encode()
        with contextlib.suppress(OSError):  # two processes may do so at once: either is right
            replace(writable(memory.parent) / memory.name, with_digest(body), private=True)
    return found


def forget(file: Path, data: DataConfig) -> None:
    """Forget what was measured: it is no longer true."""
    with contextlib.suppress(OSError):
        _memory(file, data).unlink()


def _recalled(content: bytes) -> Measured:
    """Read what is remembered. Raises: ValueError, TypeError: it is not what was written."""
    digest, pieces, *rest = json.loads(without_digest(content))
    return Measured(digest, tuple(Piece(*piece) for piece in pieces), *rest)


def _is_settled(file: Path) -> bool:
    """Return True if a file is worth remembering, and would show another time once it changes."""
    if not HAS_CHANGE_TIME:
        return False
    try:
        status = file.stat()
    except OSError as error:
        raise cannot_read(file, error) from None
    return status.st_size > BLOCK and time.time_ns() - status.st_ctime_ns > RACY


def _memory(file: Path, data: DataConfig) -> Path:
    """Return where a file's measure is remembered, for as long as it stays as it is."""
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
    """Cuts a file that comes in blocks into pieces."""

    def __init__(self, file: Path, data: DataConfig, *, in_place: bool) -> None:
        self._file, self._data, self.borders = file, data, Borders(data)
        self._in_place = in_place
        self._hasher, self._start, self._stop, self._characters = hashlib.sha256(), 0, 0, 0
        self._held: list[bytes] = []
        self.found: list[Piece] = []

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
            self._held.append(content)  # its characters are known once it is parsed
        else:
            self._characters += characters_in(content)

    def end(self, *, last: bool) -> None:
        """End a piece."""
        if self._data.field:
            content = b"".join(self._held)
            texts = objects.from_json_lines(self._file, content, self._data, self._start)
            self._characters, self._held = sum(len(text) + 1 for text in texts), []
        if self._stop > self._start or last:
            digest = self._hasher.hexdigest()
            size = self._stop - self._start
            place = self._start, self._stop
            self.found.append(Piece(*place, self._characters, digest, last, size, self._in_place))
        self._hasher, self._start, self._characters = hashlib.sha256(), self._stop, 0


def _measure(file: Path, data: DataConfig, advanced: Callable[[int], object]) -> Measured:
    if data.field:
        objects.refuse_others(file)
    stream, is_plain = utf8_blocks(file, data, advanced)
    pieces = _Pieces(file, data, in_place=is_plain and not is_compressed(file))
    whole = hashlib.sha256()
    with ThreadPoolExecutor(1) as beside:  # starts a thread only for what it is given
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
    return Measured(whole.hexdigest(), tuple(pieces.found), borders.separators, borders.varied)


def _measure_parquet(file: Path, data: DataConfig, advanced: Callable[[int], object]) -> Measured:
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
    """Finds where a file may be cut. separators, varied: as of `Measured`."""

    def __init__(self, data: DataConfig) -> None:
        self._find: Callable[[bytes], int] = _character_border
        self._separator, self._carry = Separator(data.separator), b""
        self.separators, self.varied = 0, False
        if data.field or data.records == "lines":
            self._find = lambda block: block.rfind(b"\n") + 1
        elif data.records == "separator":
            self._find = self._behind_separator
        elif data.records == "files":
            self._find = lambda block: 0
        elif data.unit == "byte":
            self._find = len
        elif data.unit == "jamo" or data.normalize != "none":
            self._find = _safe_border

    def last_in(self, block: bytes) -> int:
        """Return the last place in the next block where a piece may end; 0: nowhere."""
        return self._find(block)

    def _behind_separator(self, block: bytes) -> int:
        """Find the end of the last separator, from left to right: it may overlap with itself."""
        content = self._carry + block
        *found, rest = self._separator.split(content)
        self.separators += len(found)
        self.varied = self.varied or self._separator.is_varied(content)
        overlap = self._separator.longest(content) - 1
        self._carry = rest[max(0, len(rest) - overlap) :] if overlap else b""
        return len(block) - len(rest) if found else 0


def _character_border(block: bytes) -> int:
    """Return where the last character begins that may go on in the next block; the end behind
    ASCII; 0 where the last bytes begin no character."""
    if block[-1] < 0x80:
        return len(block)
    for back in range(1, min(4, len(block)) + 1):
        if block[-back] >= 0xC0:
            return len(block) - back
    return 0


def _safe_border(block: bytes) -> int:
    """Return where the last character begins that never combines with the one before it."""
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
    """Tell which bytes begin a character in UTF-8."""
    result: np.ndarray[Any, np.dtype[np.bool_]] = (np.frombuffer(block, np.uint8) & 0xC0) != 0x80
    return result


class Reading:
    """Tells how far the reading of files is."""

    def __init__(self, files: Iterable[Path], advanced: Callable[[int, int], object]) -> None:
        self._done, self._advanced = 0, advanced
        self._total = sum(file.stat().st_size for file in files)

    def read(self, size: int) -> None:
        """Tell that so many more bytes have been read."""
        self._done += size
        self._advanced(self._done, max(self._total, self._done))
