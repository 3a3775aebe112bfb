"""`charlm runs`."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from charlm.cli.options import refuse_no_file
from charlm.errors import UsageError
from charlm.files import replace
from charlm.runs import removal
from charlm.runs.listing import list_runs, refuse_no_folder
from charlm.terminal import console
from charlm.terminal import runs as terminal
from charlm.wording import byte_size


def runs(folder: Path, plot: Path | None, *, as_json: bool) -> None:
    """Print the runs of a folder, newest first, or write their curves as a picture."""
    refuse_no_file(plot, "--plot")
    found = list_runs(folder)
    if plot is not None:
        from charlm.reports.curves import learning_curves  # here: matplotlib takes half a second

        drawn = [run for run in found if run.curve]
        if not drawn:
            raise UsageError(f"no run in {folder} was evaluated yet", "train one first")
        try:
            replace(plot.absolute(), learning_curves(drawn))
        except OSError as error:
            raise UsageError(
                f"cannot write {plot}: {error.strerror}", "give another --plot"
            ) from None
    if as_json:
        console.print_json([run.as_json() for run in found])
    elif not found:
        console.print_status(f"there are no runs in {folder}")
    else:
        terminal.table(found)
        if any(terminal.is_empty(run) and Path(run.run) != folder for run in found):
            console.print_status(
                f"runs without a checkpoint are removed by: charlm runs {shlex.quote(str(folder))} "
                "--prune"
            )
    if plot is not None:
        console.print_status(f"curves of {len(drawn)} runs: {plot}")
    if not as_json:
        terminal.suggest(found)


def remove(folder: Path, unwanted: Sequence[Path], *, prune: bool, as_json: bool) -> None:
    """Remove the named runs and comparisons and, if `prune`, all runs without a checkpoint."""
    if prune:  # before any is removed
        refuse_no_folder(folder)
    removed = removal.remove(unwanted)
    if prune:
        removed += removal.prune(folder)
    if as_json:
        console.print_json({"removed": [asdict(one) for one in removed]})
        return
    for one in removed:
        console.print_result(f"removed {one.run}, {byte_size(one.bytes)}")
    if not removed:
        console.print_status(f"there is no run without a checkpoint to remove in {folder}")
