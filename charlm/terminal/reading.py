"""The progress of reading a text, where it takes longer than a moment."""

import sys
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm

from charlm.terminal.console import print_status
from charlm.terminal.training import SECONDS_BETWEEN_LINES, bar
from charlm.text.building import watching

MOMENT = 1.0
"""Seconds after which a bar is shown."""


class ReadingProgress:
    """Shows on a terminal how many files were found, and a bar while a text is counted and encoded;
    elsewhere a plain line now and then. Use as a context manager."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet, self._is_terminal = quiet, sys.stderr.isatty()
        self._bar: Any = None
        self._total, self._began, self._last_line = 0, time.monotonic(), time.monotonic()
        self._watching = watching(self._advanced, self._listed)

    def __enter__(self) -> "ReadingProgress":
        self._watching.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._watching.__exit__(kind, error, where)
        self._close()

    def _listed(self, files: int) -> None:
        """Show how many files were seen in folders."""
        if self._quiet:
            return
        if not self._is_terminal:
            self._line(f"{files:,} files found")
        elif self._bar is None and time.monotonic() - self._began > MOMENT:
            self._bar = tqdm(
                bar_format="{n:,} files found", file=sys.stderr, dynamic_ncols=True, leave=False
            )
        if self._bar is not None:
            self._bar.update(files - self._bar.n)

    def _line(self, message: str) -> None:
        """Print a plain line, unless one was printed a moment ago."""
        if time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            print_status(message)

    def _advanced(self, done: int, total: int) -> None:
        if self._quiet:
            return
        if not self._is_terminal:
            self._line(f"text {done / 1e6:,.0f} of {total / 1e6:,.0f} MB")
            return
        if total != self._total:  # another text, or another pass over it
            self._close()
            self._total, self._began = total, time.monotonic()
        if self._bar is None and time.monotonic() - self._began > MOMENT:
            self._bar = bar(total / 1e6, 0.0, "text {n:.0f}/{total:.0f} MB {remaining} left")
        if self._bar is not None:
            self._bar.update(done / 1e6 - self._bar.n)
        if done >= total:
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
