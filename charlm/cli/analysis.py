"""The command line of what tells about models: compare, runs, bench."""

from pathlib import Path
from typing import Annotated

import typer

from charlm.cli.app import app
from charlm.cli.options import (
    Changes,
    Data,
    Debug,
    Device,
    Json,
    Match,
    Out,
    Quiet,
    Seeds,
    Threads,
    flags,
)


@app.command(short_help="Compare cells on equal terms.")
def compare(
    cells: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CELL...", help="As in: rnn lstm gru gru:reset_gate=before,bias=false."
        ),
    ] = None,
    config: Annotated[
        str, typer.Option(help="A preset's name or a .toml file.", show_default=True)
    ] = "compare",
    data: Data = None,
    changes: Changes = None,
    match: Match = "parameters",
    seeds: Seeds = None,
    tune: Annotated[
        bool,
        typer.Option("--tune", help="First look for each cell's learning rate and dropout, alike."),
    ] = False,
    paper: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Repeat a paper's comparisons: karpathy2015, jozefowicz2015, collins2017.",
        ),
    ] = "",
    out: Out = None,
    as_json: Json = False,
    quiet: Quiet = False,
    device: Device = None,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Compare cells on equal terms: the lecture's claims as measurements, in a page to open."""
    from charlm.cli import compare as command
    from charlm.cli import study

    given = command.Arguments(
        cells or [], config, changes or [], flags(data, device, threads), match, seeds, tune
    )
    if paper:
        signalled = study.study(paper, given, out, as_json=as_json, quiet=quiet)
    else:
        signalled = command.compare(given, out, as_json=as_json, quiet=quiet)
    if signalled:
        raise typer.Exit(128 + signalled)


@app.command(short_help="List the runs of a folder.")
def runs(
    folder: Annotated[Path, typer.Argument(help="Where the runs are.")] = Path("runs"),
    plot: Annotated[
        Path | None, typer.Option(help="Write their learning curves as one PNG.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the runs of a folder, newest first."""
    from charlm.cli import runs as command

    command.runs(folder, plot, as_json=as_json)


@app.command(short_help="Measure what this machine reaches.")
def bench(
    cells: Annotated[
        list[str] | None,
        typer.Argument(metavar="CELL...", help="As in: rnn lstm gru gru:reset_gate=before."),
    ] = None,
    shapes: Annotated[
        list[str] | None,
        typer.Option("--shape", metavar="HxL", help="Width x layers, as in 512x2. Repeatable."),
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, max=1000, help="Repetitions; the median is reported.")
    ] = 5,
    as_json: Json = False,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Measure how fast this machine trains and writes, by the native kernels and by torch."""
    from charlm.cli import bench as command

    command.bench(cells or [], shapes or [], rounds=rounds, threads=threads, as_json=as_json)
