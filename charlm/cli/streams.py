"""The three standard streams of a process, made safe in any inherited state."""

import contextlib
import errno
import io
import os
import sys
from typing import Any, TextIO, cast


def secure() -> None:
    """Make the standard streams safe to use: messages on stderr may be lost silently, the result on
    stdout may not, and no file that is opened later gets the number of a closed stream."""
    for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # gets the lowest free number: this one
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    if sys.stdout is None:
        sys.stdout = _Closed()
    elif isinstance(sys.stdout, io.TextIOWrapper):
        if not sys.stdout.isatty():  # output for programs is UTF-8 in any locale
            sys.stdout.reconfigure(encoding="utf-8")
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.stderr = cast("TextIO", _Lossy(sys.stderr) if sys.stderr else _Nowhere())


def read_text(what: str, *, as_bytes: bool = False) -> str:
    """Read all of stdin as text, in UTF-8 or by its byte order mark, without the mark.

    as_bytes: True keeps bytes that are not UTF-8 as lone surrogates. what: names the text in
        errors.

    Raises: DataError for invalid bytes, unless they are kept.
    """
    from charlm.text.files.decoding import decode

    content = sys.stdin.buffer.read()
    return content.decode("utf-8", "surrogateescape") if as_bytes else decode(what, content)


def discard_unwritten() -> None:
    """Flush stdout, and drop output that fails, else the interpreter would try again."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()


class _Closed(io.TextIOBase):
    """A stdout that was closed before charlm began: writing to it fails."""

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "standard output is closed")


class _Nowhere(io.TextIOBase):
    """A stderr that was closed before charlm began: writing to it does nothing."""

    def write(self, text: str) -> int:
        return len(text)


class _Lossy:
    """A stderr that ignores errors, such as a broken pipe or a full disk, and loses the output."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
