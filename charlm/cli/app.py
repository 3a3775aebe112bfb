"""The command line: parse, call, print. Nothing heavy is imported before a command runs."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from charlm import __version__

app = typer.Typer(
    name="charlm",
    help="Train, sample, score and compare recurrent character-level language models.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

debug_wanted = False


def _want_debug(value: bool) -> None:
    global debug_wanted
    debug_wanted = debug_wanted or value


def _show_version(value: bool) -> None:
    if value:
        print(f"charlm {__version__}")
        raise typer.Exit


Debug = Annotated[
    bool, typer.Option("--debug", callback=_want_debug, help="Show tracebacks of errors.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Data = Annotated[
    list[str] | None, typer.Option(help="A file or folder of text; - is stdin. Repeatable.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="As in train.steps=500. Repeatable."),
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Processor threads to use.")]
Run = Annotated[
    Path | None,
    typer.Argument(help="A run directory, or a checkpoint in one.", show_default="the latest run"),
]
Which = Annotated[str, typer.Option("--checkpoint", help="best, latest or a step's number.")]


def _flags(data: list[str] | None, device: str | None, threads: int | None) -> dict[str, Any]:
    """The options that stand for a key of the configuration, where they were given."""
    path: str | list[str] | None = data[0] if data and len(data) == 1 else data
    flags = {"data.path": path, "train.device": device, "train.threads": threads}
    return {key: value for key, value in flags.items() if value}


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


# ---- train --------------------------------------------------------------------------------------


@app.command()
def train(
    config: Annotated[
        str | None,
        typer.Argument(
            help="A preset's name or a .toml file.", show_default="hello; default with --data"
        ),
    ] = None,
    data: Data = None,
    changes: Changes = None,
    run: Annotated[
        Path | None, typer.Option(help="The run directory.", show_default="runs/<config>-<n>")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --run, or the latest.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Resolve, count, estimate; write nothing.")
    ] = False,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    device: Device = None,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Train a model on a text."""
    from charlm.cli import train as command
    from charlm.errors import UsageError

    flags = _flags(data, device, threads)
    if resume and dry_run:
        raise UsageError("--resume and --dry-run go one at a time", "leave one of them out")
    if dry_run:
        command.dry_run(config, changes or [], flags, as_json=as_json)
        return
    signalled = command.train(
        config, run, changes or [], flags, resume=resume, as_json=as_json, quiet=quiet
    )
    if signalled:
        raise typer.Exit(128 + signalled)


# ---- sample -------------------------------------------------------------------------------------


@app.command()
def sample(
    run: Run = None,
    prompt: Annotated[str, typer.Option(help="Text to continue; - reads stdin.")] = "",
    length: Annotated[int | None, typer.Option(min=1, help="Symbols to write.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="0 always takes the most probable symbol.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=0, help="Only the K most probable symbols; 0: all.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Only the most probable symbols that reach P together.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed gives the same text.")
    ] = None,
    num: Annotated[int, typer.Option(min=1, help="So many samples at once.")] = 1,
    stop: Annotated[str, typer.Option(help="End before this text.")] = "",
    which: Which = "best",
    precision: Annotated[
        str,
        typer.Option(
            help="Of the weights: auto, float32, bfloat16 or int8 (fastest, a little worse)."
        ),
    ] = "auto",
    as_json: Json = False,
    device: Device = None,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Write text with a trained model (on the CPU unless told otherwise: the fastest place for one
    character)."""
    from charlm import api
    from charlm.cli import sample as command

    given = {"length": length, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    command.sample(
        api.load(run, which=which, device=device or "cpu"),
        sys.stdin.read() if prompt == "-" else prompt,
        {key: value for key, value in given.items() if value is not None},
        seed=seed,
        num=num,
        stop=stop,
        threads=threads,
        precision=precision,
        as_json=as_json,
    )


# ---- score --------------------------------------------------------------------------------------


@app.command()
def score(
    run: Run = None,
    file: Annotated[str | None, typer.Argument(help="A text; - is stdin.")] = None,
    split: Annotated[
        str | None, typer.Option(help="val, test or train: a split of the run's own data.")
    ] = None,
    window: Annotated[
        int, typer.Option(min=0, help="Windows of N from the zero state; 0: the whole, stateful.")
    ] = 0,
    per_character: Annotated[
        bool, typer.Option("--per-character", help="A line a symbol: its bits, a tab, the symbol.")
    ] = False,
    which: Which = "best",
    as_json: Json = False,
    device: Device = None,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """How well a model predicts a text, in bits per character."""
    from charlm import api
    from charlm.cli import score as command

    if run is not None and file is None and split is None and not run.is_dir():
        run, file = None, str(run)  # a single argument that is no run is the text
    loaded = api.load(run, which=which, device=device or "cpu")
    command.score(
        loaded,
        file,
        split,
        window=window,
        threads=threads,
        per_character=per_character,
        as_json=as_json,
    )


# ---- compare ------------------------------------------------------------------------------------


@app.command()
def compare(
    cells: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CELL...",
            help="As in: rnn lstm gru; each may have settings of its own: gru:reset_gate=before.",
        ),
    ] = None,
    config: Annotated[
        str, typer.Option(help="A preset's name or a .toml file.", show_default=True)
    ] = "compare",
    data: Data = None,
    changes: Changes = None,
    match: Annotated[
        str, typer.Option(help="What is alike: parameters, hidden (the width) or time.")
    ] = "parameters",
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Runs of each cell.")] = 3,
    tune: Annotated[
        bool,
        typer.Option("--tune", help="First look for each cell's learning rate, alike for all."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The directory; finished runs in it are reused.", show_default="runs/compare-<n>"
        ),
    ] = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    device: Device = None,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Compare cells on equal terms: the lecture's claims as measurements, in a page to open."""
    from charlm.cli import compare as command

    signalled = command.compare(
        cells or [],
        config,
        changes or [],
        _flags(data, device, threads),
        match=match,
        seeds=seeds,
        tune=tune,
        out=out,
        as_json=as_json,
        quiet=quiet,
    )
    if signalled:
        raise typer.Exit(128 + signalled)


# ---- bench --------------------------------------------------------------------------------------


@app.command()
def bench(
    cells: Annotated[
        list[str] | None,
        typer.Argument(metavar="CELL...", help="As in: rnn lstm gru gru:reset_gate=before."),
    ] = None,
    shapes: Annotated[
        list[str] | None,
        typer.Option("--shape", metavar="HxL", help="Width x layers, as in 512x2. Repeatable."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="The median of so many is shown.")] = 5,
    as_json: Json = False,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """How fast this machine trains and writes, by the native kernels and by torch."""
    from charlm.cli import bench as command

    command.bench(cells or [], shapes or [], rounds=rounds, threads=threads, as_json=as_json)


# ---- init ---------------------------------------------------------------------------------------


@app.command()
def init(
    preset: Annotated[str, typer.Argument(help="The preset to write.")] = "default",
    out: Annotated[Path | None, typer.Option(help="A file instead of stdout.")] = None,
    debug: Debug = False,
) -> None:
    """Write a preset as a commented TOML file to start from."""
    from charlm.config import loading
    from charlm.errors import UsageError

    text = loading.preset_text(preset)
    if out is None:
        sys.stdout.write(text)
        return
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{out} exists", "give another --out, or remove it") from None
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}", "give another --out") from None
