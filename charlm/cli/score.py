"""`charlm score`."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from charlm.api.options import ScoreOptions, refuse_contradictions
from charlm.cli.checks import refuse_missing, refuse_partners
from charlm.cli.options import Debug, Device, Json, Run, RunsText, Threads, Which, With
from charlm.cli.source import Source
from charlm.common.errors import UsageError


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
    from charlm.terminal import console

    console.show_log(quiet=True)
    if per_character and as_json:
        raise UsageError(
            "--per-character and --json go one at a time",
            "leave --json out: each line ends with its symbol as a JSON string",
        )
    options: ScoreOptions = {"window": window, "with_": others or [], "adapt": adapt}
    if html is not None:
        options["html"] = html
    if encoding is not None:
        options["encoding"] = encoding
    run, file = _run_and_text(run, file, split)
    refuse_contradictions(file, split, options)
    checkpoint = _check(run, which, file, encoding, data or [])
    refuse_partners(checkpoint, options["with_"])
    text = Text(file, split, per_character)
    source = Source(checkpoint, data or [], device, threads or 0, run, which)
    _score(source, text, options, as_json=as_json)


@dataclass(frozen=True)
class Text:
    """A file, or a split instead. per_character: True prints a line for each symbol."""

    file: str | None
    split: str | None
    per_character: bool


def _score(source: Source, text: Text, options: ScoreOptions, *, as_json: bool) -> None:
    """Score a text, and print the result."""
    from charlm import api
    from charlm.api.scoring import takes_torch
    from charlm.terminal import console
    from charlm.terminal import score as terminal

    plain = None if takes_torch(options) or source.threads else source.load_plain()
    loaded = plain or source.load()
    if options["adapt"]:
        console.print_status("choosing how fast to adapt, on the run's train split")
    lines = terminal.SurprisalLines(loaded.vocabulary) if text.per_character else None
    with terminal.listeners(text.file, lines) as listeners:
        scoring = api.score(loaded, text.file, split=text.split, listeners=listeners, **options)
    if scoring.pages:
        console.print_status(f"page  {', '.join(map(str, scoring.pages))}")
    if text.per_character:
        terminal.left_out_lines(loaded.vocabulary, scoring.score)
    elif as_json:
        console.print_json(scoring.report())
    else:
        terminal.scored(scoring, loaded.vocabulary)
        terminal.suggest(source.words(loaded), text.file, options)


def _check(
    run: Path | None, which: str, file: str | None, encoding: str | None, data: list[str]
) -> Path:
    """Check the run and the texts before torch is imported; return the folder of the checkpoint.

    data: paths of the run's text, if it was moved.

    Raises: UsageError, DataError, CheckpointError.
    """
    from charlm.runs.finding import find_checkpoint

    folder = find_checkpoint(run, which)
    if file is not None and file != "-":
        from charlm.text.files.compressed import refuse_unreadable

        refuse_unreadable(Path(file))
    from charlm.config.loading import with_encoding  # only now: it takes a moment
    from charlm.runs.state import read_state

    own = read_state(folder)[1].data
    refuse_missing(own, data)
    with_encoding(own, encoding, of_file=file is not None)
    return folder


def _run_and_text(
    run: Path | None, file: str | None, split: str | None
) -> tuple[Path | None, str | None]:
    """Return the run and the text from the arguments. Raises: UsageError if they are ambiguous."""
    from charlm.runs.finding import is_run

    if run is not None and file is None and split is None and not run.is_dir():
        run, file = None, str(run)  # a single argument that is not a run is the text
    if run is not None and file is not None and run.is_file() and is_run(Path(file)):
        right = shlex.join(["charlm", "score", file, str(run)])
        raise UsageError(f"{run} is a text and {file} a run: the run comes first", right)
    if file and not Path(file).exists():
        from charlm.text.files.sources import is_address

        if is_address(file.replace(":/", "://", 1)):
            raise UsageError(f"{file} is an address, not a file", "download it and name the file")
    if (file is None) == (split is None):
        raise UsageError("give a FILE or a --split, one of them", "charlm score RUN my.txt")
    return run, file
