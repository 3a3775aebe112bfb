"""`charlm compare`."""

import shlex
from dataclasses import replace
from pathlib import Path

from charlm.backends.device import prepare_process, resolve_device
from charlm.cli.arguments import SEEDS, CompareArguments
from charlm.cli.signals import stopping_on_signals
from charlm.compare.comparison import Compared, Comparison
from charlm.compare.plan import Plan, plan
from charlm.compare.result import Result
from charlm.config import loading
from charlm.reports import comparison as report
from charlm.runs.finding import claim_path
from charlm.terminal import comparison as terminal
from charlm.terminal import console
from charlm.terminal.progress import TaskProgress
from charlm.terminal.run import describe


def compare(given: CompareArguments, out: Path | None, *, as_json: bool, quiet: bool) -> int:
    """Carry out or continue a comparison; return the number of the signal that ended it."""
    given = replace(given, seeds=SEEDS if given.seeds is None else given.seeds)
    planned = planned_comparison(given)
    path = out or claim_path("compare")  # only now: refused arguments leave no folder
    result, signalled = carry_out(planned, path, given.command(), quiet=quiet)
    if result is None:
        tell_how_to_go_on(given.command(), path)
        return signalled
    report.write(result, path)
    if as_json:
        console.print_json(result)
    elif not quiet:
        terminal.conclude(result)
        console.print_page(result["report"])
    return 0


def planned_comparison(given: CompareArguments, budget: int = 0) -> Plan:
    """Plan the requested comparison. budget, Raises: see `plan`."""
    assert given.seeds is not None
    layers = loading.load(given.config, given.changes, given.flags)
    with TaskProgress():
        return plan(
            layers,
            given.cells,
            match=given.match,
            seeds=given.seeds,
            tune=given.tune,
            budget=budget,
        )


def tell_how_to_go_on(command: str, path: Path) -> None:
    """Print the command that continues a stopped comparison."""
    console.print_status(f"stopped; to go on: {command} --out {shlex.quote(str(path))}", "next")


def carry_out(
    planned: Plan, path: Path, command: str, *, longer: bool = True, quiet: bool
) -> tuple[Result | None, int]:
    """Carry a comparison out in a folder, and write its result.

    command: the command line that repeats it. longer: see `Comparison`.

    Returns: the result, None if a signal ended the work; and the number of that signal, 0 if there
        was none.
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
