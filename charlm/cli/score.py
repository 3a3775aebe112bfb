"""`charlm score`."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from charlm.api.options import ScoreOptions, refuse_texts
from charlm.cli.checks import refuse_missing, refuse_partners
from charlm.cli.options import Debug, Device, Json, Run, RunsText, Threads, Which, With
from charlm.cli.source import Source
from charlm.common.errors import UsageError

if TYPE_CHECKING:
    from charlm.api.loaded import Loaded
    from charlm.api.plain import PlainLoaded
    from charlm.text.files.walking import TextFiles


Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FILE...]", help="A text; - is stdin. Several, or a folder, are documents."
    ),
]
Split = Annotated[
    Literal["val", "validation", "test", "train"] | None,
    typer.Option(help="A split of the run's own data instead of a FILE."),
]
Against = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="Compare with another run on the same documents."),
]


def score(
    run: Run = None,
    files: Files = None,
    split: Split = None,
    against: Against = None,
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
    options: ScoreOptions = {"window": window, "with_": others or [], "adapt": adapt}
    if html is not None:
        options["html"] = html
    if encoding is not None:
        options["encoding"] = encoding
    run, paths = _run_and_texts(run, files or [], split)
    several = against is not None or len(paths) > 1 or _has_folder(paths)
    texts = Texts(paths, split, several, per_character)
    texts.refuse(options, as_json=as_json)
    _carry_out(
        [
            Source(_checkpoint(one, which), data or [], device, threads or 0, one, which)
            for one in ([run] if against is None else [run, against])
        ],
        texts,
        options,
        as_json=as_json,
    )


@dataclass(frozen=True)
class Texts:
    """Files, or a split instead. several: True for documents. per_character: True prints a line for
    each symbol."""

    files: list[str]
    split: str | None
    several: bool
    per_character: bool

    @property
    def file(self) -> str | None:
        """The only file; None for a split."""
        return self.files[0] if self.files else None

    def refuse(self, options: ScoreOptions, *, as_json: bool) -> None:
        """Check that no options exclude each other, nor the texts. Raises: UsageError."""
        if self.per_character and as_json:
            raise UsageError(
                "--per-character and --json go one at a time",
                "leave --json out: each line ends with its symbol as a JSON string",
            )
        if self.per_character and self.several:
            raise UsageError(
                "--per-character prints one text by one run", "name one FILE, or leave it out"
            )
        texts = self.files if self.several else self.file
        refuse_texts(texts, self.split, options, several=self.several)


def _carry_out(
    sources: Sequence[Source], texts: Texts, options: ScoreOptions, *, as_json: bool
) -> None:
    """Check the runs and the texts, and score them."""
    found = _check(sources, texts, options)
    if found is not None:
        _score_documents(sources, texts, found, options, as_json=as_json)
    else:
        _score(sources[0], texts, options, as_json=as_json)


def _score(source: Source, texts: Texts, options: ScoreOptions, *, as_json: bool) -> None:
    """Score a text, and print the result."""
    from charlm import api
    from charlm.terminal import console
    from charlm.terminal import score as terminal

    loaded = _load(source, options)
    lines = terminal.SurprisalLines(loaded.vocabulary) if texts.per_character else None
    with terminal.listeners(texts.file, lines) as listeners:
        scoring = api.score(loaded, texts.file, split=texts.split, listeners=listeners, **options)
    if scoring.pages:
        console.print_status(f"page  {', '.join(map(str, scoring.pages))}")
    if texts.per_character:
        terminal.left_out_lines(loaded.vocabulary, scoring.score)
    elif as_json:
        console.print_json(scoring.report())
    else:
        terminal.scored(scoring, loaded.vocabulary)
        terminal.suggest(source.words(loaded), texts.file, options)


def _score_documents(
    sources: Sequence[Source],
    texts: Texts,
    found: "TextFiles",
    options: ScoreOptions,
    *,
    as_json: bool,
) -> None:
    """Score documents by one run or by two, and print the result. found: the documents' files."""
    from charlm import api
    from charlm.terminal import console
    from charlm.terminal import documents as terminal

    models = [_load(source, options) for source in sources]
    words = sources[0].words(models[0])
    with terminal.listeners(found, len(models)) as listeners:
        if len(models) == 1:
            scores = api.score(models[0], texts.files, listeners=listeners, **options)
            report = scores.report
        else:
            pair = api.score(
                models[0], texts.files, against=models[1], listeners=listeners, **options
            )
            scores, report = pair.scores, pair.report
    if as_json:
        console.print_json(report())
        return
    if len(models) == 1:
        terminal.scored(scores, models[0].vocabulary)
    else:
        terminal.compared(pair, [model.vocabulary for model in models])
    terminal.suggest(scores, words, options)


def _load(source: Source, options: ScoreOptions) -> "Loaded | PlainLoaded":
    """Load a model, without torch if that is enough. Raises: as `Source.load`."""
    from charlm.api.scoring import takes_torch
    from charlm.terminal import console

    plain = None if takes_torch(options) or source.threads else source.load_plain()
    if options["adapt"]:
        console.print_status("choosing how fast to adapt, on the run's train split")
    return plain or source.load()


def _checkpoint(run: Path | None, which: str) -> Path:
    """Find the folder of the checkpoint. Raises: UsageError, CheckpointError."""
    from charlm.runs.finding import find_checkpoint

    return find_checkpoint(run, which)


def _has_folder(paths: Sequence[str]) -> bool:
    """Return True if there is a folder of documents. (A run is refused as a text.)"""
    from charlm.runs.finding import is_run

    return any(path and Path(path).is_dir() and not is_run(Path(path)) for path in paths)


def _check(sources: Sequence[Source], texts: Texts, options: ScoreOptions) -> "TextFiles | None":
    """Check the runs and the texts before torch is imported. sources: of one run or two.

    Returns: the files of several documents; None for one text.

    Raises: UsageError, DataError, CheckpointError.
    """
    if not texts.several:
        from charlm.text.files.compressed import refuse_unreadable

        for text in texts.files:
            if text != "-":
                refuse_unreadable(Path(text))
    from charlm.config.loading import with_encoding  # only now: it takes a moment
    from charlm.runs.state import read_state

    datas = []
    for source in sources:
        own = read_state(source.checkpoint)[1].data
        refuse_missing(own, source.data)
        datas.append(with_encoding(own, options.get("encoding"), of_file=bool(texts.files)))
        refuse_partners(source.checkpoint, options["with_"])
    if not texts.several:
        return None
    from charlm.text.files.sources import find_documents

    if len(sources) > 1:
        from charlm.api.documents import refuse_pair

        refuse_pair([source.checkpoint for source in sources], datas, texts.files)
    return find_documents(texts.files, datas[0])


def _run_and_texts(
    run: Path | None, files: Sequence[str], split: str | None
) -> tuple[Path | None, list[str]]:
    """Return the run and the texts from the arguments. Raises: UsageError if they are ambiguous."""
    from charlm.runs.finding import is_run

    texts = list(files)
    if run is not None and not texts and split is None and not run.is_dir():
        run, texts = None, [str(run)]  # a single argument that is not a run is the text
    if run is not None and texts and (str(run) == "-" or (run.exists() and not run.is_dir())):
        for file in texts:
            if is_run(Path(file)):
                right = shlex.join(["charlm", "score", file, str(run)])
                raise UsageError(f"{run} is a text and {file} a run: the run comes first", right)
        run, texts = None, [str(run), *texts]  # documents, for the latest run
    for file in texts:
        if file and not Path(file).exists():
            from charlm.text.files.sources import is_address

            if is_address(file.replace(":/", "://", 1)):
                raise UsageError(
                    f"{file} is an address, not a file", "download it and name the file"
                )
    if bool(texts) == (split is not None):
        raise UsageError("give a FILE or a --split, one of them", "charlm score RUN my.txt")
    return run, texts
