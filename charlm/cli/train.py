"""`charlm train`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from charlm.cli.arguments import TrainArguments
from charlm.cli.checks import silent
from charlm.cli.options import (
    Changes,
    Data,
    Debug,
    Device,
    DryRun,
    Init,
    Json,
    Log,
    Processes,
    Quiet,
    TeacherRuns,
    Threads,
    flags,
)
from charlm.common.errors import UsageError
from charlm.common.files import refuse_no_folder


def train(
    config: Annotated[
        str | None,
        typer.Argument(
            help="A preset's name, a .toml file, or a text or folder to train on.",
            show_default="hello; default with --data",
        ),
    ] = None,
    data: Data = None,
    changes: Changes = None,
    run: Annotated[
        Path | None,
        typer.Option(help="The run directory.", show_default="runs/<text or preset>-<n>"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --run, or the latest.")
    ] = False,
    init: Init = None,
    teachers: TeacherRuns = None,
    log: Log = None,
    processes: Processes = 1,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
    device: Device = None,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Train a model on a text, or resume a run: the same command with --resume added."""
    from charlm.terminal import console

    console.show_log(quiet=quiet or (dry_run and as_json))
    named = flags(data, device, threads, init, teachers, log)
    given = TrainArguments(config, changes or [], named, run, resume, as_json, quiet)
    _check(given, dry_run=dry_run, processes=processes)
    if dry_run:
        from charlm.cli.dry_run import show

        show(given)
        return
    if processes > 1:
        from charlm.cli.launch import launch

        code = launch(processes, given)
    else:
        from charlm.cli import worker  # only now: it imports torch

        code = worker.train(given)
    if code:
        raise typer.Exit(code)


def _check(given: TrainArguments, *, dry_run: bool, processes: int) -> None:
    """Check the arguments before torch is imported.

    Raises: ConfigError, DataError, UsageError, CheckpointError.
    """
    if dry_run and (given.resume or processes > 1):
        other = "--resume" if given.resume else "--processes"
        raise UsageError(f"{other} and --dry-run go one at a time", "leave one of them out")
    if processes > 1:
        if "WORLD_SIZE" in os.environ:
            raise UsageError(
                "a launcher has started several processes already: WORLD_SIZE is set",
                "leave --processes out, or unset WORLD_SIZE",
            )
        given.refuse_stdin()
    if "WORLD_SIZE" in os.environ:  # one of several processes: they report an error together
        return
    refuse_no_folder(given.run, "--run")
    from charlm.runs.logs import refuse_missing

    refuse_missing(given.flags.get("train.log", ()))
    if not given.resume:
        _refuse_at_once(given, dry_run=dry_run)
        given.layers.resolve_every_size()
    from charlm.runs.named import run_name  # only now: it takes a moment
    from charlm.training import request

    if not given.resume:
        request.check_new(given.layers)
        return
    with silent():
        name = run_name(given.begins) if given.begins is not None else ""
        existing = request.find_run(given.run, name)
        if existing is not None:
            request.check_resumed(*existing, given.changes, given.named[1])
        elif given.begins is not None:
            request.check_new(given.begins)


def _refuse_at_once(given: TrainArguments, *, dry_run: bool) -> None:
    """Check the names of a new run's preset, text and directory: this takes no configuration.

    Raises: ConfigError, DataError, UsageError.
    """
    from charlm.config import presets
    from charlm.runs.directory import refuse_taken
    from charlm.text.files import sources

    name, flags = given.named
    if not name.endswith(".toml"):
        presets.text(name)
    sources.refuse_absent(flags.get("data.path", []))
    if given.run is not None and not dry_run:
        refuse_taken(given.run)
