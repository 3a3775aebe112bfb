"""Table of the runs of a folder on the terminal."""

import time
from collections.abc import Sequence

from charlm.common.wording import byte_size
from charlm.runs.listing import ListedRun
from charlm.terminal.console import print_columns, print_next

STYLES = {"finished": "", "stopped": "doubtful", "running": "good", "damaged": "bad"}


def is_empty(run: ListedRun) -> bool:
    """Return True for a run that ended before its first checkpoint."""
    return not run.has_checkpoint and run.state != "running"


def table(runs: Sequence[ListedRun]) -> None:
    """Print one line per run, newest first."""
    rows = [
        (
            run.run,
            run.text or "-",
            run.cell or "-",
            "-" if run.parameters is None else f"{run.parameters:,}",
            f"{run.steps:,}",
            "-" if run.bits_per_character is None else f"{run.bits_per_character:.4f}",
            "no checkpoint" if is_empty(run) else run.state,
            byte_size(run.bytes),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(run.changed)),
        )
        for run in runs
    ]
    heading = ("run", "text", "cell", "parameters", "steps", "bits/char", "state", "size", "saved")
    print_columns(heading, rows, right={3, 4, 5, 7}, styles=[STYLES[run.state] for run in runs])


def suggest(runs: Sequence[ListedRun]) -> None:
    """Print a command to try next with the newest run."""
    if not runs:
        print_next("charlm", "train", "my.txt")
    elif not runs[0].has_checkpoint or runs[0].state in ("running", "damaged"):
        print_next("charlm", "runs", "--help")
    elif runs[0].state == "stopped":
        print_next("charlm", "train", "--resume", "--run", runs[0].run)
    else:
        print_next("charlm", "sample", runs[0].run)
