"""Ctrl-C and SIGTERM: what is under way is finished and saved."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[list[int]]:
    """Have a first SIGINT or SIGTERM call `stop`; yield the list of those received."""
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received:  # asked twice: do not wait for the step
            raise KeyboardInterrupt
        received.append(number)
        stop()

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_at_once(number: int, frame: FrameType | None) -> None:
    """Exit, while nothing needs saving yet."""
    raise SystemExit(128 + number)
