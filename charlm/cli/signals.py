"""Handling of Ctrl-C, SIGTERM and a closed terminal: the current step is finished and saved."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

STOPPING = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if os.name == "posix" else [])]
"""Signals that end a command: from the keyboard, from the system, from a closed terminal."""
COMPILING = str(Path("charlm", "native", "build.py"))
"""Module that compiles the kernels."""
_exiting: list[int] = []
"""The signal because of which this process is exiting, once there is one."""


@contextmanager
def stopping_on_signals(stop: Callable[[], None], *, insistent: bool = True) -> Iterator[list[int]]:
    """Call `stop` on the first signal of `STOPPING`; yield the list of those received. While the
    kernels are compiled, which takes up to a minute, also exit.

    insistent: True makes a second Ctrl-C end without waiting for the step; False is for one of
        several processes, which receives the same signal from the terminal and from its launcher.
    """
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if (
            insistent and received and number == signal.SIGINT
        ):  # the second time: do not wait for the step
            hasten(number)
            raise KeyboardInterrupt
        received.append(number)
        stop()
        if _is_in(frame, COMPILING):  # it kills the compilers
            raise SystemExit(128 + number)

    with handled_by(handle):
        yield received


def exit_on_signals() -> None:
    """Make signals end this process without a traceback, while nothing needs saving yet."""
    _exiting.clear()
    for number in heeded():
        signal.signal(number, _exit)


def leave(code: int) -> NoReturn:
    """Exit with a code; after a signal at once, as Python's own end takes a second with torch."""
    if _exiting:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def hasten(number: int) -> None:
    """Make `leave` exit at once, because of a signal."""
    _exiting.append(number)


def left_to_the_system() -> AbstractContextManager[None]:
    """Make signals end this process at once during a `with` block in which it waits in a library:
    Python's handlers would run only after the wait."""
    return handled_by(signal.SIG_DFL)


def heeded() -> list[int]:
    """List the signals of `STOPPING` that the parent process has not set to be ignored."""
    return [number for number in STOPPING if not _is_ignored(number)]


def _exit(number: int, frame: FrameType | None) -> None:
    """Exit, removing temporary files; at once during an import, where the exception might be
    mistaken for a failed import. Meanwhile a second Ctrl-C ends at once, and other signals are
    ignored."""
    if _exiting and number != signal.SIGINT:
        return
    if _exiting:
        os._exit(128 + number)
    hasten(number)
    if _is_in(frame, "<frozen importlib"):
        os._exit(128 + number)
    raise SystemExit(128 + number)


def _is_in(frame: FrameType | None, file: str) -> bool:
    """Return True if a file's code is running. file: a part of its path."""
    while frame is not None and file not in frame.f_code.co_filename:
        frame = frame.f_back
    return frame is not None


@contextmanager
def handled_by(handle: Callable[[int, FrameType | None], None] | signal.Handlers) -> Iterator[None]:
    """Handle signals of `STOPPING` by `handle` during a `with` block."""
    before = {number: signal.signal(number, handle) for number in heeded()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_ignored(number: int) -> bool:
    """Return True if the parent process set a signal to be ignored, as nohup does with SIGHUP.

    Ctrl-C is excepted: a shell sets it to be ignored in background processes, and `kill -INT`
    should still stop them.
    """
    return number != signal.SIGINT and signal.getsignal(number) == signal.SIG_IGN
