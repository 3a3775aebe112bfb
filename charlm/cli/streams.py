"""The three standard streams of a process, whatever state they were handed over in."""

import contextlib
import errno
import io
import os
import sys
from typing import Any, TextIO, cast


def secure() -> None:
    """Make the standard streams safe to use: the talk on stderr may be lost without a word, the
    product on stdout may not, and a closed one is never taken for the next file that is opened."""
    for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest free number: this one
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    if sys.stdout is None:
        sys.stdout = _Closed()
    elif isinstance(sys.stdout, io.TextIOWrapper):
        if not sys.stdout.isatty():  # what is read by programs is UTF-8, whatever the locale
            sys.stdout.reconfigure(encoding="utf-8")
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.stderr = cast("TextIO", _Lossy(sys.stderr) if sys.stderr else _Nowhere())


def read_text(what: str, *, as_bytes: bool = False) -> str:
    """Read all of stdin as text, in UTF-8 or as its byte order mark says, without the mark.

    as_bytes: keep bytes that are no UTF-8, as lone surrogates.

    Raises: DataError for `what`, where they are not to be kept.
    """
    from charlm.text.decoding import decode

    content = sys.stdin.buffer.read()
    return content.decode("utf-8", "surrogateescape") if as_bytes else decode(what, content)


def discard_unwritten() -> None:
    """Flush stdout, and drop what it does not take, or the interpreter would try again."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()


class _Closed(io.TextIOBase):
    """A stdout that was closed before charlm began: writing to it fails as it would have."""

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "standard output is closed")


class _Nowhere(io.TextIOBase):
    """A stderr that was closed before charlm began."""

    def write(self, text: str) -> int:
        return len(text)


class _Lossy:
    """A stderr whose reader may go away, or whose disk may be full: what it does not take is lost,
    and nothing ends for it."""

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
