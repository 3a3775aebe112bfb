"""`charlm compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli.options import (
    Changes,
    Debug,
    Device,
    Json,
    Match,
    Out,
    Quiet,
    Search,
    Seeds,
    Task,
    Texts,
    Threads,
    flags,
)
from charlm.common.files import refuse_no_folder

if TYPE_CHECKING:
    from charlm.comparison.request import CompareRequest


def compare(
    cells: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CELL...", help="As in: rnn lstm gru gru:reset_gate=before,bias=false."
        ),
    ] = None,
    config: Annotated[
        str,
        typer.Option(
            help="A preset's name or a .toml file.", show_default="compare; task with --task"
        ),
    ] = "",
    data: Texts = None,
    task: Task = "",
    changes: Changes = None,
    match: Match = "parameters",
    seeds: Seeds = None,
    tune: Annotated[
        bool,
        typer.Option("--tune", help="First search for each cell's learning rate and dropout."),
    ] = False,
    search: Search = None,
    paper: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Repeat a paper's comparisons: karpathy2015, jozefowicz2015, collins2017, "
            "melis2018, feng2024.",
        ),
    ] = "",
    out: Out = None,
    as_json: Json = False,
    quiet: Quiet = False,
    device: Device = None,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Compare cells on equal terms: test the lecture's claims, and write a report."""
    from charlm.comparison.request import CompareRequest
    from charlm.terminal import console

    console.show_log(quiet=quiet)
    refuse_no_folder(out, "--out")
    named = flags(data, device, threads)
    request = CompareRequest(
        cells or [], config, changes or [], named, match, seeds, tune, task, search
    )
    if paper:
        from charlm.cli import study

        code = study.study(paper, request, out, as_json=as_json, quiet=quiet)
    else:
        code = _compare(request, out, as_json=as_json, quiet=quiet)
    if code:
        raise typer.Exit(code)


def _compare(request: "CompareRequest", out: Path | None, *, as_json: bool, quiet: bool) -> int:
    """Carry out or continue a comparison; return the exit code."""
    from charlm.config.cell_spec import parse_cell

    for cell in request.cells:
        parse_cell(cell)
    from charlm.comparison import cells  # only now: it takes a moment
    from charlm.comparison.request import SEEDS

    seeds = SEEDS if request.seeds is None else request.seeds
    cells.refuse(request.layers(), request.cells, request.match, seeds)
    from charlm.api import comparing  # only now: it imports torch
    from charlm.cli.watching import Watching, print_how_to_go_on
    from charlm.runs.finding import claim_path
    from charlm.terminal import comparison as terminal
    from charlm.terminal import console, texts
    from charlm.terminal.progress import TaskProgress

    with TaskProgress():
        planned = comparing.planned(request)
    path = out or claim_path("compare")  # only now: refused arguments leave no folder
    command, watching = request.command(), Watching(quiet=quiet)
    result = comparing.carry_out(planned, path, command, watch=watching)
    if result is None:
        print_how_to_go_on(command, path)
        return watching.code
    if as_json:
        console.print_json(result)
    elif not quiet:
        (texts if "texts" in result else terminal).conclude(result)
        console.print_page(result["report"])
    return 0
