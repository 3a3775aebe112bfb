"""The command line: parse, call, print. Nothing heavy is imported before a command runs."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm import __version__

if TYPE_CHECKING:
    from charlm.events import Finished
    from charlm.runs import Plan
    from charlm.sample import Stream
    from charlm.train import Trainer

app = typer.Typer(
    name="charlm",
    help="Train, sample and score recurrent character-level language models.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

SMALL_ENOUGH_TO_SHOW = 32
"""Symbols of a text whose every prediction fits on the screen, as in the lecture's example."""

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
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Processor threads to use.")]
Run = Annotated[
    Path | None,
    typer.Argument(help="A run directory, or a checkpoint in one.", show_default="the latest run"),
]
Which = Annotated[str, typer.Option("--checkpoint", help="best, latest or a step's number.")]


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
    data: Annotated[
        list[str] | None, typer.Option(help="A file or folder of text; - is stdin. Repeatable.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="As in train.steps=500. Repeatable."),
    ] = None,
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
    from charlm.errors import UsageError

    signal.signal(signal.SIGTERM, _exit_at_once)
    flags = _flags(data, device, threads)
    if resume and dry_run:
        raise UsageError("--resume and --dry-run go one at a time", "leave one of them out")
    if dry_run:
        _dry_run(config, changes or [], flags, as_json)
        return
    if resume:
        trainer, directory = _resume(config, run, changes or [], flags, quiet)
    else:
        trainer, directory = _begin(config, run, changes or [], flags, quiet)
    try:
        finished, received = _train(trainer, directory, quiet)
    finally:
        directory.unlock()
    _report(finished, trainer, as_json, quiet)
    if received:
        raise typer.Exit(128 + received)


def _flags(data: list[str] | None, device: str | None, threads: int | None) -> dict[str, Any]:
    """The options that stand for a key of the configuration."""
    flags: dict[str, Any] = {}
    if data:
        flags["data.path"] = data[0] if len(data) == 1 else data
    if device is not None:
        flags["train.device"] = device
    if threads is not None:
        flags["train.threads"] = threads
    return flags


def _begin(
    config: str | None, run: Path | None, changes: list[str], flags: dict[str, Any], quiet: bool
) -> Any:
    from charlm import console, runs

    planned = _plan(config, changes, flags)
    trainer, directory = runs.begin(planned, run)
    if not quiet:
        console.describe(planned.corpus)
        console.introduce(
            trainer.model.parameter_count(), planned.config, directory.path, trainer.place()
        )
    return trainer, directory


def _plan(
    config: str | None, changes: list[str], flags: dict[str, Any], *, keep: bool = True
) -> "Plan":
    from charlm import runs, settings

    name = config or ("default" if "data.path" in flags else "hello")
    return runs.plan(settings.load(name, changes, flags), keep=keep)


def _resume(
    config: str | None, run: Path | None, changes: list[str], flags: dict[str, Any], quiet: bool
) -> Any:
    from charlm import console, runs

    if config is not None:
        console.warn(f"--resume goes on with the run's own configuration, not with {config}")
    resumed = runs.resume(run, changes, flags)
    if resumed.differences:
        listed = "; ".join(resumed.differences)
        console.warn(f"not as when the run stopped, so the last bits may differ: {listed}")
    if not quiet:
        console.say(f"resuming {resumed.run.path} at step {resumed.checkpoint.step}")
    return resumed.trainer, resumed.run


def _train(trainer: "Trainer", directory: Any, quiet: bool) -> tuple["Finished", int]:
    """Run the loop; a first SIGINT or SIGTERM ends it after the step under way."""
    from charlm.events import Finished
    from charlm.progress import Progress

    start = trainer.progress.step
    with (
        _stopping_on_signals(trainer) as received,
        Progress(trainer.config.train, start=start, quiet=quiet) as progress,
    ):
        for event in trainer.train(directory):
            progress.show(event)
            if isinstance(event, Finished):
                return event, received[0] if received else 0
    raise AssertionError("training ends with Finished")


@contextmanager
def _stopping_on_signals(trainer: "Trainer") -> Iterator[list[int]]:
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received:  # asked twice: do not wait for the step
            raise KeyboardInterrupt
        received.append(number)
        trainer.stop()

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_at_once(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _report(
    finished: "Finished", trainer: "Trainer", as_json: bool, quiet: bool
) -> None:
    from charlm import console
    from charlm.evaluate import distributions

    if as_json:
        print(json.dumps(finished.summary))
        return
    if quiet:
        return
    corpus = trainer.corpus
    if len(corpus.train) <= SMALL_ENOUGH_TO_SHOW:
        given = corpus.symbols[corpus.train.start : corpus.train.stop]
        symbols = [corpus.vocabulary.symbol(index) for index in range(len(corpus.vocabulary))]
        shown = [symbols[index] for index in given]
        rows = distributions(trainer.judged, given[:-1])
        console.predictions_table(shown[:-1], shown[1:], symbols, rows.tolist())
    first = corpus.vocabulary.decode(corpus.symbols[:1].tolist())
    console.conclude(finished.summary, prompt=first if len(corpus.train) <= 32 else "")


def _dry_run(
    config: str | None, changes: list[str], flags: dict[str, Any], as_json: bool
) -> None:
    from charlm import console
    from charlm.train import Trainer

    planned = _plan(config, changes, flags, keep=False)
    trainer = Trainer(planned.config, planned.corpus)
    estimate = trainer.estimate()
    if as_json:
        splits = {name: split.characters for name, split in planned.corpus.splits.items()}
        print(
            json.dumps(
                {
                    "config": planned.config.model_dump(),
                    "origins": planned.origins,
                    "characters": splits,
                    **estimate,
                }
            )
        )
        return
    console.settings_table(planned.config, planned.origins)
    console.describe(planned.corpus)
    console.estimated(estimate)


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
    as_json: Json = False,
    device: Device = None,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Write text with a trained model."""
    import secrets

    from charlm import api, console
    from charlm.sample import bits_per_character, named

    loaded = api.load(run, which=which, device=device or "cpu", threads=threads)
    given = {"length": length, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    options = _options(loaded.checkpoint.config.sample, given)
    prompt = sys.stdin.read() if prompt == "-" else prompt
    chosen_seed = secrets.randbelow(2**32) if seed is None else seed
    unknown = loaded.vocabulary.unknown_in(prompt)
    if unknown:
        fate = "read as unknown" if loaded.vocabulary.has_unknown else "left out"
        console.warn(f"not in the vocabulary, so {fate}: {named(unknown)}")
    streams: list[Stream] = []
    pieces = loaded.stream(
        prompt, options=options, seed=chosen_seed, num=num, stop=stop, streams=streams
    )
    if as_json or num > 1:
        for _ in pieces:
            pass
    if as_json:
        samples = [
            {
                "text": s.text.encode("utf-8", "replace").decode(),
                "bits_per_character": bits_per_character(s, loaded.vocabulary),
            }
            for s in streams
        ]
        print(json.dumps({"prompt": prompt, "seed": chosen_seed, "samples": samples}))
        return
    writer = console.Writer()
    if num == 1:
        writer.write(prompt)
        for piece in pieces:
            writer.write(piece)
        writer.end_line()
    else:
        for number, stream in enumerate(streams, start=1):
            writer.write(f"--- {number} of {num} ---\n{prompt}{stream.text}")
            writer.end_line()
    if seed is None and sys.stderr.isatty():
        console.say(f"(seed {chosen_seed})", "dim")


def _options(defaults: Any, given: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from charlm.errors import UsageError

    chosen = {key: value for key, value in given.items() if value is not None}
    try:
        return type(defaults).model_validate({**defaults.model_dump(), **chosen})
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        what = first["msg"].replace("Input should be", "should be")
        raise UsageError(f"{option} {first['input']} {what}", "see charlm sample --help") from None


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
    from charlm import api, console
    from charlm import score as scoring
    from charlm.errors import UsageError

    if run is not None and file is None and split is None and not run.is_dir():
        run, file = None, str(run)  # a single argument that is no run is the text
    if (file is None) == (split is None):
        raise UsageError("give a FILE or a --split, one of them", "charlm score RUN my.txt")
    loaded = api.load(run, which=which, device=device or "cpu", threads=threads)
    if split is not None:
        names = {"val": "validation", "validation": "validation", "test": "test", "train": "train"}
        if split not in names:
            raise UsageError(f"there is no split {split!r}", "the splits are val, test and train")
        result = scoring.split(loaded.checkpoint, loaded.model, names[split], window)
    else:
        assert file is not None
        content = scoring.content_of(file, loaded.vocabulary)
        result = scoring.text(loaded.model, loaded.vocabulary, content, window)
    if per_character:
        console.surprisal_lines(result, loaded.vocabulary)
    elif as_json:
        print(json.dumps(result.summary()))
    else:
        console.scored(result)


# ---- init ---------------------------------------------------------------------------------------


@app.command()
def init(
    preset: Annotated[str, typer.Argument(help="The preset to write.")] = "default",
    out: Annotated[Path | None, typer.Option(help="A file instead of stdout.")] = None,
    debug: Debug = False,
) -> None:
    """Write a preset as a commented TOML file to start from."""
    from charlm import settings
    from charlm.errors import UsageError

    text = settings.preset_text(preset)
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
