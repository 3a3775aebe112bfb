"""Ctrl-C, SIGTERM and a closed terminal: what is under way is finished and saved."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import NoReturn

STOPPING = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if os.name == "posix" else [])]
"""Signals that end a command: from the keyboard, from the system, from a terminal that closes."""
_exiting: list[int] = []
"""The signal that this process is exiting for, once there is one."""


@contextmanager
def stopping_on_signals(stop: Callable[[], None], *, insistent: bool = True) -> Iterator[list[int]]:
    """Have a first signal of `STOPPING` call `stop`; yield the list of those received.

    insistent: a second Ctrl-C does not wait for the step. One of several processes is told twice of
        the same, by the terminal and by its launcher.
    """
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if (
            insistent and received and number == signal.SIGINT
        ):  # asked twice: do not wait for the step
            hasten(number)
            raise KeyboardInterrupt
        received.append(number)
        stop()

    with handled_by(handle):
        yield received


def exit_on_signals() -> None:
    """Have signals end this process while nothing needs saving yet, without a traceback."""
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
    """Have `leave` exit at once, for a signal."""
    _exiting.append(number)


def left_to_the_system() -> AbstractContextManager[None]:
    """Have signals end this process at once inside, where it waits in a library, which runs no
    handler of Python's before the wait is over."""
    return handled_by(signal.SIG_DFL)


def heeded() -> list[int]:
    """List the signals of `STOPPING` that whoever started this process has not had ignored."""
    return [number for number in STOPPING if not _is_ignored(number)]


def _exit(number: int, frame: FrameType | None) -> None:
    """Exit, removing temporary files on the way; at once where a module is being imported, because
    an exception there may be taken for a module that cannot be. While it exits, a second Ctrl-C
    does not wait, and other signals change nothing."""
    if _exiting and number != signal.SIGINT:
        return
    if _exiting:
        os._exit(128 + number)
    hasten(number)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(128 + number)
        frame = frame.f_back
    raise SystemExit(128 + number)


@contextmanager
def handled_by(handle: Callable[[int, FrameType | None], None] | signal.Handlers) -> Iterator[None]:
    """Have signals of `STOPPING` handled inside."""
    before = {number: signal.signal(number, handle) for number in heeded()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_ignored(number: int) -> bool:
    """Tell whether whoever started this process wants a signal ignored, as nohup does SIGHUP.

    Not Ctrl-C: a shell has it ignored in whatever it starts in the background, and `kill -INT` is
    still meant to stop that.
    """
    return number != signal.SIGINT and signal.getsignal(number) == signal.SIG_IGN
