"""Declarations of the commands that train and use a model; `analysis` has the others.

Nothing heavy is imported before a command runs.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from charlm.cli.options import (
    BestOf,
    Changes,
    CheckCopies,
    Clamps,
    Data,
    Debug,
    Device,
    DryRun,
    Init,
    Json,
    MinP,
    Novel,
    Precision,
    Processes,
    Quiet,
    RepetitionPenalty,
    Run,
    RunsText,
    Seed,
    TeacherRuns,
    Temperature,
    Threads,
    TopK,
    TopP,
    Which,
    With,
    flags,
)
from charlm.version import __version__

EXAMPLES = """\b
Examples:
  charlm train my.txt
  charlm sample --prompt "Once upon a time"
  charlm compare rnn lstm gru --data my.txt

\b
Exit codes:
  0 done, 1 failure, 2 wrong usage or data, 3 damaged checkpoint, 4 diverged,
  128 + n after signal n (saved)
"""

app = typer.Typer(
    name="charlm",
    help="Train, sample, score and compare recurrent character-level language models.",
    epilog=EXAMPLES,
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 100},
)


def _show_version(value: bool) -> None:
    if value:
        print(f"charlm {__version__}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, help="Print the version.")
    ] = False,
    debug: Debug = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command(short_help="Train a model on a text, or resume a run.")
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
    processes: Processes = 1,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
    device: Device = None,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Train a model on a text, or resume a run: the same command with --resume added."""
    from charlm.cli import checks
    from charlm.cli.arguments import TrainArguments
    from charlm.terminal import console

    console.show_log(quiet=quiet or (dry_run and as_json))
    named = flags(data, device, threads, init, teachers)
    given = TrainArguments(config, changes or [], named)
    checks.train(given, run, resume=resume, dry_run=dry_run, processes=processes)
    from charlm.cli import train as command  # only now: it imports torch

    if dry_run:
        command.dry_run(given, as_json=as_json)
        return
    options: Any = {"resume": resume, "as_json": as_json, "quiet": quiet}
    if processes > 1:
        from charlm.cli.launch import launch

        code = launch(processes, given, run, options)
    else:
        code = command.train(given, run, **options)
    if code:
        raise typer.Exit(code)


@app.command(short_help="Write text with a trained model.")
def sample(
    run: Run = None,
    prompt: Annotated[str, typer.Option(help="Text to continue; - reads stdin.")] = "",
    length: Annotated[int | None, typer.Option(min=1, max=10**9, help="Symbols to write.")] = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    repetition_penalty: RepetitionPenalty = None,
    seed: Seed = None,
    num: Annotated[int, typer.Option(min=1, max=10**9, help="Number of samples.")] = 1,
    best_of: BestOf = 1,
    stop: Annotated[str, typer.Option(help="End before this text.")] = "",
    others: With = None,
    adapt: Annotated[bool, typer.Option("--adapt", help="Learn from the prompt first.")] = False,
    clamps: Clamps = None,
    check_copies: CheckCopies = False,
    novel: Novel = False,
    data: RunsText = None,
    which: Which = "best",
    precision: Precision = "auto",
    as_json: Json = False,
    device: Device = None,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Write text with a trained model (by default on the CPU, where it is fastest)."""
    from charlm.cli import checks
    from charlm.terminal import console

    console.show_log(quiet=True)
    given = {"length": length, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    given |= {"min_p": min_p, "repetition_penalty": repetition_penalty}
    options = {key: value for key, value in given.items() if value is not None}
    checkpoint = checks.sample(
        run, which, options, others=others or [], clamps=clamps or [], novel=novel, data=data or []
    )
    from charlm import api  # only now: it imports torch
    from charlm.cli import sample as command
    from charlm.terminal.progress import TaskProgress

    with TaskProgress():
        loaded = api.load(checkpoint, device=device or "cpu", data=data or None)
    command.sample(
        loaded,
        prompt,
        {**options, "num": num, "stop": stop, "threads": threads or 1, "precision": precision},
        seed=seed,
        writers=command.Writers(others or [], adapt, clamps or []),
        check_copies=check_copies,
        novel=novel,
        best_of=best_of,
        as_json=as_json,
    )


@app.command(short_help="Score a text: bits per character.")
def score(
    run: Run = None,
    file: Annotated[str | None, typer.Argument(help="A text; - is stdin.")] = None,
    split: Annotated[
        Literal["val", "validation", "test", "train"] | None,
        typer.Option(help="A split of the run's own data instead of a FILE."),
    ] = None,
    data: RunsText = None,
    window: Annotated[
        int,
        typer.Option(
            min=0, max=10**9, help="Windows of N from the zero state; 0: the whole, stateful."
        ),
    ] = 0,
    others: With = None,
    adapt: Annotated[
        bool, typer.Option("--adapt", help="Learn from the text while reading it.")
    ] = False,
    per_character: Annotated[
        bool, typer.Option("--per-character", help="Print lines of bits, a tab and a symbol.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(help="Write a page: the text coloured by surprisal.", metavar="FILE"),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            metavar="CODEC", help="Encoding of FILE, as in cp1251; default: that of the run's text."
        ),
    ] = None,
    which: Which = "best",
    as_json: Json = False,
    device: Device = None,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Score a model on a text, in bits per character."""
    from charlm.cli import checks
    from charlm.cli.arguments import ScoreArguments
    from charlm.terminal import console

    console.show_log(quiet=True)
    given = ScoreArguments(
        file, split, data or [], encoding, window, others or [], adapt, per_character, html
    )
    checkpoint, given, reading = checks.score(run, which, given)
    from charlm.cli import score as command  # only now: it imports torch

    command.score(
        checkpoint,
        given,
        reading,
        device=device or "cpu",
        threads=threads,
        as_json=as_json,
    )


@app.command(short_help="Write a preset as a file to start from.")
def init(
    preset: Annotated[str, typer.Argument(help="The preset to write.")] = "default",
    out: Annotated[Path | None, typer.Option(help="A file instead of stdout.")] = None,
    debug: Debug = False,
) -> None:
    """Write a preset as a commented TOML file to start from."""
    from charlm.cli import init as command

    command.init(preset, out)
