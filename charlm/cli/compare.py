"""`charlm compare`."""

import json
import shlex
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from charlm.cli.signals import exit_at_once, stopping_on_signals
from charlm.compare.comparison import Compared, Comparison, next_path
from charlm.compare.plan import plan
from charlm.config import loading
from charlm.reports import comparison as report
from charlm.terminal import comparison as terminal
from charlm.terminal import console


def compare(
    cells: Sequence[str],
    config: str,
    changes: Sequence[str],
    flags: Mapping[str, Any],
    *,
    match: str,
    seeds: int,
    tune: bool,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Carry a comparison out, or on; returns the number of the signal that ended it."""
    signal.signal(signal.SIGTERM, exit_at_once)
    console.show_log(quiet=quiet)
    draft = loading.load(config, changes, flags)
    planned = plan(draft, cells, match=match, seeds=seeds, tune=tune)
    path = out or next_path()
    command = _command(cells, config, changes, flags, match=match, seeds=seeds, tune=tune)
    comparison = Comparison(planned, path)
    if not quiet:
        console.describe(planned.corpus)
        console.say(f"comparison  {path}")
    result = None
    with (
        stopping_on_signals(comparison.stop) as received,
        terminal.Progress(quiet=quiet) as progress,
    ):
        for event in comparison.run(command):
            if isinstance(event, Compared):
                result = event.result
            else:
                progress.show(event)
    again = f"{command} --out {shlex.quote(str(path))}"
    if result is None:
        console.say(f"stopped; to go on: {again}", "bold")
        return received[0]
    page = path / report.PAGE
    result["report"] = str(page)
    comparison.write(result)
    report.write(result, path)
    if as_json:
        print(json.dumps(result))
    elif not quiet:
        terminal.conclude(result)
    return 0


def _command(
    cells: Sequence[str],
    config: str,
    changes: Sequence[str],
    flags: Mapping[str, Any],
    *,
    match: str,
    seeds: int,
    tune: bool,
) -> str:
    """The command line that repeats a comparison."""
    words = ["charlm", "compare", *cells, "--config", config]
    paths = flags.get("data.path", [])
    for path in [paths] if isinstance(paths, str) else paths:
        words += ["--data", path]
    for change in changes:
        words += ["--set", change]
    words += ["--match", match, "--seeds", str(seeds), *(["--tune"] if tune else [])]
    for option, key in (("--device", "train.device"), ("--threads", "train.threads")):
        if key in flags:
            words += [option, str(flags[key])]
    return shlex.join(words)
