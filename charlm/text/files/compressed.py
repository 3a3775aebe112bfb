"""Files, compressed or not, read as a stream of blocks."""

import errno
import lzma
import os
import select
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from charlm.common.errors import DataError

BLOCK = 1 << 20
"""Bytes read at a time: enough for full speed, few enough to stay in the processor's cache."""
SUFFIXES = {".gz", ".xz", ".zst"}
FIFO_SECONDS = 5
"""Timeout for the first bytes of a FIFO: without a writer, reading would never return."""
ZSTD_INPUT = 1 << 10
"""Bytes of a `.zst` file taken at a time: each four may stand for 128 KB."""


def is_compressed(file: Path) -> bool:
    """Return True if a file is compressed, judged by its name."""
    return file.suffix.lower() in SUFFIXES


def suffix_inside(file: Path) -> str:
    """Return the suffix of a file's name without that of its compression, in lower case."""
    inside = file.with_suffix("") if is_compressed(file) else file
    return inside.suffix.lower()


def blocks(file: Path, advanced: Callable[[int], object] | None = None) -> Iterator[bytes]:
    """Yield the content of a file, decompressed, block by block.

    advanced: called with the number of bytes read since the last call, of the file as it is stored.

    Raises: DataError if it cannot be read, is a device, or is compressed and damaged.
    """
    try:
        with open_to_read(file) as raw:
            mode = file.stat().st_mode
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                raise OSError(0, "it is a device, and may never end")
            done = 0
            for block in _inside(file, raw):
                yield block
                if advanced:
                    advanced(raw.tell() - done)
                    done = raw.tell()
            if advanced and raw.tell() > done:
                advanced(raw.tell() - done)
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise _damaged(file, error) from None
    except OSError as error:
        raise cannot_read(file, error) from None


def head_of(file: Path, size: int) -> bytes:
    """Return the first bytes of a file's content, decompressed.

    Raises: DataError: as `blocks`.
    """
    try:
        if not is_compressed(file) or not file.stat().st_size:
            with open_to_read(file) as raw:
                return raw.read(size)
    except OSError as error:
        raise cannot_read(file, error) from None
    return next(blocks(file), b"")[:size]


def open_to_read(path: Path) -> BinaryIO:
    """Open a file, or a FIFO that a program writes to.

    Raises: OSError, also if no program writes to a FIFO within FIFO_SECONDS.
    """
    if not stat.S_ISFIFO(path.stat().st_mode) or _is_anonymous(path):
        return path.open("rb")
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    waiting = select.poll()
    waiting.register(handle, select.POLLIN)
    if not waiting.poll(FIFO_SECONDS * 1000):
        os.close(handle)
        raise OSError(0, f"it is a FIFO, and nothing came out of it for {FIFO_SECONDS} seconds")
    os.set_blocking(handle, True)
    return os.fdopen(handle, "rb")


def _is_anonymous(path: Path) -> bool:
    """Return True for a pipe without a name of its own, such as a shell's <(...): from the start it
    has a writer or is at its end."""
    ends = os.pipe()
    is_anonymous = os.fstat(ends[0]).st_dev == path.stat().st_dev
    for end in ends:
        os.close(end)
    return is_anonymous


def _inside(file: Path, raw: BinaryIO) -> Iterator[bytes]:
    """Yield the blocks of an open file."""
    suffix = file.suffix.lower()
    if suffix == ".gz":
        yield from _decompressed(raw, _Format(_Gzip, padding=1))
    elif suffix == ".xz":
        yield from _decompressed(raw, _Format(lzma.LZMADecompressor, padding=4))
    elif suffix == ".zst":
        new, failure = _zstd_decompressor(file)
        try:
            yield from _decompressed(raw, _Format(new, input_size=ZSTD_INPUT))
        except failure as error:
            raise _damaged(file, error) from None
    else:
        while block := raw.read(BLOCK):
            yield block


class _Decompressor(Protocol):
    """A decompressor of one stream, as in `lzma` (a member of a `.gz`, a frame of a `.zst`)."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


@dataclass(frozen=True)
class _Format:
    """A format of compressed files. new: factory of decompressors.

    padding: zero bytes may follow a stream, in multiples of this number; 0: none may.
    input_size: bytes read at a time; small where a decompressor cannot limit its output.
    """

    new: Callable[[], _Decompressor]
    padding: int = 0
    input_size: int = 1 << 16


def _decompressed(raw: BinaryIO, form: _Format) -> Iterator[bytes]:
    """Decompress stream by stream, in memory that does not depend on the compression ratio.

    This notices a truncated last stream and foreign bytes after a stream, which `lzma.open` ignores
    without an error.

    Raises: EOFError, or the decompressor's error.
    """
    stream: _Decompressor | None = None
    is_first, zeros, held = True, 0, bytearray()
    while block := raw.read(form.input_size):
        while block or (stream and not stream.needs_input):
            if stream is None:
                size = len(block)
                block = block if is_first or not form.padding else block.lstrip(b"\0")
                zeros += size - len(block)
                if not block:
                    break
                _check_padding(zeros, form)
                stream, is_first, zeros = form.new(), False, 0
            held += stream.decompress(block, BLOCK - len(held))
            block = b""
            if stream.eof:
                block, stream = stream.unused_data, None
            while len(held) >= BLOCK:
                yield bytes(held[:BLOCK])
                del held[:BLOCK]
    if stream or is_first:
        raise EOFError("it ends in the middle")
    _check_padding(zeros, form)
    if held:
        yield bytes(held)


def _check_padding(zeros: int, form: _Format) -> None:
    """Check the number of zero bytes after a stream. Raises: EOFError."""
    if form.padding and zeros % form.padding:
        raise EOFError("it ends in the middle of padding")


class _Gzip:
    """A member of a `.gz` file, decompressed and checked by its CRC and length."""

    def __init__(self) -> None:
        self._own = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # 16: with gzip's head and CRC
        self._is_full = False

    @property
    def eof(self) -> bool:
        return self._own.eof

    @property
    def needs_input(self) -> bool:
        return not (self._own.unconsumed_tail or self._is_full)

    @property
    def unused_data(self) -> bytes:
        return self._own.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        content = self._own.decompress(self._own.unconsumed_tail + data, max_length)
        self._is_full = len(content) == max_length
        return content


class _Zstandard:
    """A frame of a `.zst` file, by the package zstandard, which cannot limit its output."""

    eof, needs_input, unused_data = False, True, b""

    def __init__(self, new: Callable[[], Any]) -> None:
        self._own = new().decompressobj()

    def decompress(self, data: bytes, _: int, /) -> bytes:
        content: bytes = self._own.decompress(data)
        if self._own.eof:
            self.eof, self.unused_data = True, self._own.unused_data
        return content


def _zstd_decompressor(file: Path) -> tuple[Callable[[], _Decompressor], type[Exception]]:
    """Return the factory of decompressors, and the error that they raise."""
    name = "compression.zstd" if sys.version_info >= (3, 14) else "zstandard"
    try:
        module = import_module(name)
    except ModuleNotFoundError:
        raise DataError(
            f"{file} is compressed with zstd, and there is no module {name}",
            "pip install charlm[zstd], or decompress it: zstd -d",
        ) from None
    new = module.ZstdDecompressor
    return (lambda: _Zstandard(new)) if name == "zstandard" else new, module.ZstdError


def _damaged(file: Path, error: Exception) -> DataError:
    said = "it is cut short" if isinstance(error, EOFError) else str(error)
    return DataError(
        f"{file} cannot be decompressed: {said}",
        "get it again, or check it with the program that compressed it",
    )


def refuse_unreadable(file: Path) -> None:
    """Check, without opening it, that a file exists and is readable. Raises: DataError."""
    try:
        if stat.S_ISDIR(file.stat().st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not os.access(file, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise cannot_read(file, error) from None


def cannot_read(path: Path | str, error: OSError) -> DataError:
    """Make the error for a file or folder that cannot be read."""
    if isinstance(error, IsADirectoryError):
        return DataError(f"{path} is a folder, not a file", "name a file in it")
    return DataError(f"cannot read {path}: {error.strerror}", "check the path and its permissions")
