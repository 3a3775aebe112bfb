"""`charlm compare`."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charlm.backends.device import prepare_process, resolve_device
from charlm.cli.signals import stopping_on_signals
from charlm.compare.comparison import Compared, Comparison
from charlm.compare.plan import plan
from charlm.config import loading
from charlm.reports import comparison as report
from charlm.runs.finding import claim_path
from charlm.terminal import comparison as terminal
from charlm.terminal import console
from charlm.terminal.run import describe


@dataclass(frozen=True)
class Arguments:
    """What was given to `charlm compare`; see `plan`."""

    cells: Sequence[str]
    config: str
    changes: Sequence[str]
    flags: Mapping[str, Any]
    match: str
    seeds: int
    tune: bool

    def command(self) -> str:
        """Return the command line that repeats the comparison."""
        words = ["charlm", "compare", *self.cells, "--config", self.config]
        paths = self.flags.get("data.path", [])
        for path in [paths] if isinstance(paths, str) else paths:
            words += ["--data", path]
        for change in self.changes:
            words += ["--set", change]
        words += ["--match", self.match, "--seeds", str(self.seeds)]
        words += ["--tune"] if self.tune else []
        for option, key in (("--device", "train.device"), ("--threads", "train.threads")):
            if key in self.flags:
                words += [option, str(self.flags[key])]
        return shlex.join(words)


def compare(given: Arguments, out: Path | None, *, as_json: bool, quiet: bool) -> int:
    """Carry a comparison out, or on; return the number of the signal that ended it."""
    console.show_log(quiet=quiet)
    layers = loading.load(given.config, given.changes, given.flags)
    planned = plan(layers, given.cells, match=given.match, seeds=given.seeds, tune=given.tune)
    train = planned.entries[0].config.train
    prepare_process(resolve_device(train.device), train.threads)
    path = out or claim_path("compare")
    comparison = Comparison(planned, path)
    if not quiet:
        describe(planned.corpus)
        console.print_status(f"comparison  {path}")
    result = None
    with (
        stopping_on_signals(comparison.stop) as received,
        terminal.ComparisonProgress(quiet=quiet) as progress,
    ):
        for event in comparison.run(given.command()):
            if isinstance(event, Compared):
                result = event.result
            else:
                progress.show(event)
    if result is None:
        again = f"{given.command()} --out {shlex.quote(str(path))}"
        console.print_status(f"stopped; to go on: {again}", "bold")
        return received[0]
    result["report"] = str(path / report.PAGE)
    comparison.write(result)
    report.write(result, path)
    if as_json:
        console.print_json(result)
    elif not quiet:
        terminal.conclude(result)
    return 0
