"""`charlm runs`."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from charlm.cli.options import Debug, Json
from charlm.common.errors import UsageError
from charlm.common.files import refuse_no_file

WATCH_SECONDS = 1.0
"""Seconds between two looks at the folder."""


def runs(
    folder: Annotated[Path, typer.Argument(help="The folder of the runs.")] = Path("runs"),
    plot: Annotated[
        Path | None, typer.Option(help="Write their learning curves as one PNG.")
    ] = None,
    unwanted: Annotated[
        list[Path] | None,
        typer.Option("--rm", metavar="RUN", help="Remove a run or a comparison. Repeatable."),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove the runs that have no checkpoint.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Print them again when they change, until Ctrl-C.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the runs of a folder, newest first, or remove some."""
    if watch and (unwanted or prune or plot is not None or as_json):
        raise UsageError("--watch goes alone", "leave the other options out")
    if unwanted or prune:
        if plot is not None:
            raise UsageError("--plot draws runs, --rm and --prune remove them", "do one at a time")
        _remove(folder, unwanted or [], prune=prune, as_json=as_json)
    elif watch:
        _watch(folder)
    else:
        _list(folder, plot, as_json=as_json)


def _watch(folder: Path) -> None:
    """Print the runs of a folder whenever they have changed; on a terminal in the same place."""
    from charlm.runs.listing import list_runs
    from charlm.terminal import console
    from charlm.terminal import runs as terminal

    shown = None
    while True:
        found = list_runs(folder)
        if (now := [run.as_json() for run in found]) != shown:
            console.out.clear()
            terminal.table(found)
            shown = now
        time.sleep(WATCH_SECONDS)


def _list(folder: Path, plot: Path | None, *, as_json: bool) -> None:
    """Print the runs of a folder, newest first, or write their curves as a picture."""
    from charlm.common.files import replace
    from charlm.runs.listing import list_runs
    from charlm.terminal import console
    from charlm.terminal import runs as terminal

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


def _remove(folder: Path, unwanted: Sequence[Path], *, prune: bool, as_json: bool) -> None:
    """Remove the named runs and comparisons and, if `prune`, all runs without a checkpoint."""
    from charlm.common.wording import byte_size
    from charlm.runs import removal
    from charlm.runs.listing import refuse_no_folder
    from charlm.terminal import console

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
