"""Texts that can be read only once: standard input, FIFOs, files named by a descriptor's number.

Their content is copied to a file in the cache, so that a resumed run finds it again.
"""

import hashlib
import os
import re
import stat
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

from charlm.common.errors import DataError
from charlm.common.files import cache_folder, cannot_write_cache, sweep, writable
from charlm.text.files.compressed import BLOCK, cannot_read, open_to_read

NUMBERED = re.compile(r"/dev/(stdin$|fd/)|/proc/[^/]+/fd/")
STDIN = "-"

_copies: dict[tuple[int, int], Path] = {}
"""This process's copies of streams, by device and inode."""


def is_stream(path: str) -> bool:
    """Return True for standard input, a FIFO such as a shell's <(...), and a file named by a number
    of a descriptor, which in another process means another file or none."""
    if path == STDIN:
        return True
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or (is_numbered(path) and stat.S_ISREG(mode))


def is_numbered(path: str) -> bool:
    """Return True for standard input, and for a file named by a process's descriptor."""
    return path == STDIN or NUMBERED.match(path) is not None


def copy_to_cache(path: str) -> Path:
    """Copy a stream to the cache; return the file. Raises: DataError if unreadable or empty."""
    place = _place(path)
    if place in _copies and _copies[place].is_file():
        return _copies[place]
    if path == STDIN:
        copy = _copy(sys.stdin.buffer, "standard input")
    else:
        try:
            with open_to_read(Path(path)) as stream:
                copy = _copy(stream, path)
        except OSError as error:
            raise cannot_read(path, error) from None
    if place:
        _copies[place] = copy
    return copy


def _place(path: str) -> tuple[int, int] | None:
    """Return the device and inode of a stream; None for a file that can be read again."""
    try:
        status = os.fstat(sys.stdin.fileno()) if path == STDIN else Path(path).stat()
    except (OSError, ValueError):
        return None
    is_read_once = path == STDIN or stat.S_ISFIFO(status.st_mode)
    return (status.st_dev, status.st_ino) if is_read_once else None


def _copy(stream: BinaryIO, name: str) -> Path:
    """Copy an open stream to a file named after its content."""
    folder, digest = writable(cache_folder() / "stdin"), hashlib.sha256()
    sweep(folder, "tmp*")
    try:
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as copy:
            temporary = Path(copy.name)
            try:
                while block := _read(stream, name):
                    digest.update(block)
                    copy.write(block)
                if not copy.tell():
                    raise DataError(f"{name} is empty", "pipe a text into charlm, or name a file")
                copy.flush()
                os.fsync(copy.fileno())
                path = folder / f"{digest.hexdigest()[:16]}.txt"
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write_cache(folder, error) from None
    return path


def _read(stream: BinaryIO, name: str) -> bytes:
    try:
        return stream.read(BLOCK)
    except OSError as error:
        raise cannot_read(name, error) from None
