"""Display of the library's progress reports, on a terminal or in a log."""

import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from charlm.common import progress
from charlm.terminal.console import duration, print_status
from charlm.terminal.training import SECONDS_BETWEEN_LINES, bar

MOMENT = 1.0
"""Seconds after which a bar is shown."""


class TaskProgress:
    """Display of each task: a bar on a terminal once it takes longer than `MOMENT`, a plain line
    now and then elsewhere. Use it as a context manager around the work."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._task, self._share = "", 0.0
        self._start = 0.0
        self._began = self._last_line = time.monotonic()
        self._context: AbstractContextManager[None] = progress.shown_by(self._show)

    def __enter__(self) -> "TaskProgress":
        self._context.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._context.__exit__(kind, error, where)
        self._close()

    def _show(self, task: str, share: float | None) -> None:
        if self._quiet:
            return
        now = time.monotonic()
        if share is None:
            self._count(task, now)
            return
        if task != self._task or share < self._share:  # another task, or the same one again
            self._close()
            self._task, self._began, self._last_line = task, now, now
            self._start = share
        self._share = share
        if share >= 1.0:
            self._close()
        elif sys.stderr.isatty():
            self._show_bar(now)
        elif now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            left = (now - self._began) * (1 - share) / max(share - self._start, 1e-9)
            print_status(f"{task}: {100 * share:.0f} % · {duration(left)} left")

    def _count(self, status: str, now: float) -> None:
        """Show a count whose total is unknown."""
        if not sys.stderr.isatty():
            if now - self._last_line > SECONDS_BETWEEN_LINES:
                self._last_line = now
                print_status(status)
        elif now - self._began > MOMENT:
            self._bar = self._bar or bar(1.0, 0.0, "", bar_format="{desc}")
            self._bar.set_description_str(status)

    def _show_bar(self, now: float) -> None:
        if self._bar is None:
            if now - self._began < MOMENT:
                return
            self._bar = bar(1.0, self._start, "{desc} · {remaining} left")
            self._bar.start_t -= now - self._began  # so that the rate is from the task's start
            self._bar.set_description_str(self._task, refresh=False)
        self._bar.update(self._share - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
