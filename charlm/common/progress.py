"""Progress reports of long work, for a callback; by default they are ignored."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import TypeVar

Item = TypeVar("Item")
Show = Callable[[str, float | None], object]
"""Callback for the current task and the share of it that is done, from 0 to 1; None: unknown."""

_show: ContextVar[Show] = ContextVar("show", default=lambda *_: None)


@contextlib.contextmanager
def shown_by(show: Show) -> Iterator[None]:
    """Pass all reports made inside a `with` block to `show`."""
    before = _show.set(show)
    try:
        yield
    finally:
        _show.reset(before)


@contextlib.contextmanager
def within(task: str, start: float, stop: float, total: float) -> Iterator[None]:
    """Report the work inside a `with` block as the part of `task` from `start` to `stop` of
    `total`, under any name in its own reports."""
    outer = _show.get()
    outer(task, start / total)

    def show_part(_: str, share: float | None) -> None:
        if share is not None:
            outer(task, (start + share * (stop - start)) / total)

    with shown_by(show_part):
        yield


def report(task: str, done: float, total: float) -> None:
    """Report that `done` of `total` units of a task are done."""
    _show.get()(task, done / total if total else 1.0)


def count_files(number: int) -> None:
    """Report the number of files found so far, of an unknown total."""
    _show.get()(f"{number:,} files found", None)


def track(items: Iterable[Item], task: str, total: int) -> Iterator[Item]:
    """Yield `total` items, and report the number of items processed."""
    for number, item in enumerate(items):
        report(task, number, total)
        yield item
    report(task, total, total)
