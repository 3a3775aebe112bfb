"""A comparison on the terminal, ended by a signal."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from charlm.cli.signals import stopping_on_signals
from charlm.comparison.execution import Comparison, Stage
from charlm.comparison.runs import RunnerEvent
from charlm.comparison.series import Series
from charlm.terminal import comparison as terminal
from charlm.terminal import console
from charlm.terminal.run import describe


def print_how_to_go_on(command: str, path: Path) -> None:
    """Print the command that continues a stopped comparison."""
    console.print_status(f"stopped; to go on: {command} --out {shlex.quote(str(path))}", "next")


class Watching:
    """The progress of a comparison or series on the terminal, and its end by a signal.

    code: 128 plus the number of the signal that has stopped it; 0 if none has.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.code, self._quiet = 0, quiet

    @contextmanager
    def __call__(
        self, comparison: Comparison | Series
    ) -> Iterator[Callable[[Stage | RunnerEvent], object]]:
        if not self._quiet:
            for name, corpus in comparison.corpora.items():
                if len(comparison.corpora) > 1:
                    console.print_status(name, "heading")
                describe(corpus)
            console.print_status(f"comparison  {comparison.path}")
        with (
            stopping_on_signals(comparison.stop) as received,
            terminal.ComparisonProgress(quiet=self._quiet) as progress,
        ):
            try:
                yield progress.show
            except SystemExit:
                if not received:
                    raise
            finally:
                self.code = 128 + received[0] if received else 0
