"""How far the reading of a text is, where it takes longer than a moment."""

import sys
import time
from types import TracebackType
from typing import Any

from charlm.terminal.training import bar
from charlm.text.building import watching

MOMENT = 1.0
"""Seconds after which a bar is shown."""


class ReadingProgress:
    """Shows a bar on a terminal while a text is counted and encoded. Use as a context manager."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._shown = not quiet and sys.stderr.isatty()
        self._bar: Any = None
        self._total, self._began = 0, 0.0
        self._watching = watching(self._advanced)

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

    def _advanced(self, done: int, total: int) -> None:
        if not self._shown:
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
