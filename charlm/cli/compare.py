"""`charlm compare`."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from charlm.backends.device import prepare_process, resolve_device
from charlm.cli.signals import stopping_on_signals
from charlm.compare.comparison import Compared, Comparison
from charlm.compare.plan import Plan, plan
from charlm.compare.result import Result
from charlm.config import loading
from charlm.reports import comparison as report
from charlm.runs.finding import claim_path
from charlm.terminal import comparison as terminal
from charlm.terminal import console
from charlm.terminal.reading import ReadingProgress
from charlm.terminal.run import describe

SEEDS = 5
"""Runs of each cell, unless told otherwise: fewer show too little of the spread."""


@dataclass(frozen=True)
class Arguments:
    """What was given to `charlm compare`; see `plan`. seeds: None where they were left out."""

    cells: Sequence[str]
    config: str
    changes: Sequence[str]
    flags: Mapping[str, Any]
    match: str
    seeds: int | None
    tune: bool

    def command(self, paper: str = "") -> str:
        """Return the command line that repeats the comparison, or the study of a paper."""
        words = ["charlm", "compare", *self.cells]
        words += ["--paper", paper] if paper else ["--config", self.config]
        paths = self.flags.get("data.path", [])
        for path in [paths] if isinstance(paths, str) else paths:
            words += ["--data", path]
        for change in self.changes:
            words += ["--set", change]
        words += [] if paper else ["--match", self.match]
        words += ["--seeds", str(self.seeds)] if self.seeds is not None else []
        words += ["--tune"] if self.tune else []
        for option, key in (("--device", "train.device"), ("--threads", "train.threads")):
            if key in self.flags:
                words += [option, str(self.flags[key])]
        return shlex.join(words)


def compare(given: Arguments, out: Path | None, *, as_json: bool, quiet: bool) -> int:
    """Carry a comparison out, or on; return the number of the signal that ended it."""
    console.show_log(quiet=quiet)
    given = replace(given, seeds=SEEDS if given.seeds is None else given.seeds)
    planned = planned_comparison(given)
    path = out or claim_path("compare")  # only now: what is refused leaves no folder behind
    result, signalled = carry_out(planned, path, given.command(), quiet=quiet)
    if result is None:
        tell_how_to_go_on(given.command(), path)
        return signalled
    report.write(result, path)
    if as_json:
        console.print_json(result)
    elif not quiet:
        terminal.conclude(result)
    return 0


def planned_comparison(given: Arguments, budget: int = 0) -> Plan:
    """Plan what was asked for. budget, Raises: see `plan`."""
    assert given.seeds is not None
    layers = loading.load(given.config, given.changes, given.flags)
    with ReadingProgress():
        return plan(
            layers,
            given.cells,
            match=given.match,
            seeds=given.seeds,
            tune=given.tune,
            budget=budget,
        )


def tell_how_to_go_on(command: str, path: Path) -> None:
    """Print the command that goes on with what was stopped in a folder."""
    console.print_status(f"stopped; to go on: {command} --out {shlex.quote(str(path))}", "bold")


def carry_out(
    planned: Plan, path: Path, command: str, *, longer: bool = True, quiet: bool
) -> tuple[Result | None, int]:
    """Carry a comparison out in a folder, and write its result.

    command: what repeats it. longer: see `Comparison`.

    Returns: the result, None where a signal ended the work before; and that signal's number, 0
        where there was none.
    """
    train = planned.entries[0].config.train
    prepare_process(resolve_device(train.device), train.threads)
    comparison = Comparison(planned, path, goes_longer=longer)
    if not quiet:
        describe(planned.corpus)
        console.print_status(f"comparison  {path}")
    result = None
    with (
        stopping_on_signals(comparison.stop) as received,
        terminal.ComparisonProgress(quiet=quiet) as progress,
    ):
        for event in comparison.run(command):
            if isinstance(event, Compared):
                result = event.result
            else:
                progress.show(event)
    if result is not None:
        result["report"] = str(path / report.PAGE)
        comparison.write(result)
    return result, received[0] if received else 0
