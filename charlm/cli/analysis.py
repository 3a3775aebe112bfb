"""Declarations of the commands compare, inspect, lecture, runs, cache and bench."""

from pathlib import Path
from typing import Annotated, Literal

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
    Run,
    RunsText,
    Seeds,
    Threads,
    Which,
    flags,
)
from charlm.errors import UsageError


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
        typer.Option("--tune", help="First search for each cell's learning rate and dropout."),
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
    """Compare cells on equal terms: test the lecture's claims, and write a report."""
    from charlm.cli import checks
    from charlm.cli.arguments import CompareArguments
    from charlm.terminal import console

    console.show_log(quiet=quiet)
    given = CompareArguments(
        cells or [], config, changes or [], flags(data, device, threads), match, seeds, tune
    )
    checks.compare(given, out, paper)
    from charlm.cli import compare as command  # only now: it imports torch
    from charlm.cli import study

    if paper:
        signalled = study.study(paper, given, out, as_json=as_json, quiet=quiet)
    else:
        signalled = command.compare(given, out, as_json=as_json, quiet=quiet)
    if signalled:
        raise typer.Exit(128 + signalled)


@app.command(short_help="Analyse a trained model.")
def inspect(
    run: Run = None,
    gates: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Show every gate and state over a text; - reads stdin."),
    ] = None,
    units: Annotated[
        bool, typer.Option("--units", help="Find units that follow a property of the text.")
    ] = False,
    probe: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Probe its states for labels: lines of label, tab, text."
        ),
    ] = None,
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Measure how far the gradient reaches back.")
    ] = False,
    context: Annotated[
        bool, typer.Option("--context", help="Measure how much context it uses.")
    ] = False,
    errors: Annotated[bool, typer.Option("--errors", help="Divide its loss by cause.")] = False,
    memorization: Annotated[
        bool,
        typer.Option("--memorization", help="Find text copied from its training text."),
    ] = False,
    bptt: Annotated[bool, typer.Option("--bptt", help="Compare truncated with full BPTT.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="The directory.", show_default="inspect/ in the run")
    ] = None,
    data: RunsText = None,
    which: Which = "best",
    as_json: Json = False,
    device: Device = None,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Analyse a trained model: write a page about it and, for each option, a page of results."""
    from charlm.cli import checks
    from charlm.cli.arguments import InspectArguments
    from charlm.terminal import console

    console.show_log(quiet=True)
    views = InspectArguments(
        gates, probe, units, gradients, context, errors, memorization, bptt, data or []
    )
    checkpoint = checks.inspect(run, which, views, out)
    from charlm.cli import inspect as command  # only now: it imports torch

    command.inspect(
        checkpoint,
        views,
        out,
        device=device or "cpu",
        threads=threads,
        as_json=as_json,
    )


@app.command(short_help="Measure the lecture's claims, on a page.")
def lecture(
    data: Annotated[
        str, typer.Option(help="A text to train on.", show_default="Python's standard library")
    ] = "",
    out: Annotated[Path, typer.Option(help="The directory of the page.")] = Path("lecture"),
    language: Annotated[Literal["en", "ko"], typer.Option(help="The language of the page.")] = "en",
    as_json: Json = False,
    quiet: Quiet = False,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Measure every claim of the lecture notes on this machine, in two to three minutes."""
    from charlm.cli import checks

    checks.lecture(data, out)
    from charlm.cli import lecture as command  # only now: it imports torch

    command.lecture(data, out, language, threads=threads, as_json=as_json, quiet=quiet)


@app.command(short_help="List the runs of a folder.")
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
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the runs of a folder, newest first, or remove some."""
    from charlm.cli import runs as command

    if unwanted or prune:
        if plot is not None:
            raise UsageError("--plot draws runs, --rm and --prune remove them", "do one at a time")
        command.remove(folder, unwanted or [], prune=prune, as_json=as_json)
    else:
        command.runs(folder, plot, as_json=as_json)


@app.command(short_help="Show or clear the cache.")
def cache(
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove all that can be made or fetched again.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the size of the cache: encoded texts, downloads, kernels. Its folder is that of the
    variable CHARLM_CACHE, else charlm in the user's cache folder. An encoded text that is not
    opened for 90 days is removed when another one is made."""
    from charlm.cli import cache as command

    command.cache(clear=clear, as_json=as_json)


@app.command(short_help="Measure the speed of this machine.")
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
    """Measure this machine's speed of training and sampling, by the native kernels and by torch."""
    from charlm.cli import checks

    checks.bench(cells or [], shapes or [])
    from charlm.cli import bench as command  # only now: it imports torch

    command.bench(cells or [], shapes or [], rounds=rounds, threads=threads, as_json=as_json)
