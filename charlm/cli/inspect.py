"""`charlm inspect`."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli.checks import refuse_missing
from charlm.cli.options import Debug, Device, Json, Run, RunsText, Threads, Which
from charlm.cli.source import Source
from charlm.common.files import refuse_no_folder

if TYPE_CHECKING:
    from charlm.api.loaded import Loaded
    from charlm.reports.inspection.views import Inspection
    from charlm.reports.view import View

PAGES = "inspect"
"""Default folder, within a run, of the pages."""


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
    from charlm.terminal import console

    console.show_log(quiet=True)
    flags = {"units": units, "gradients": gradients, "context": context, "errors": errors}
    flags |= {"memorization": memorization, "bptt": bptt}
    wanted = Views(gates, probe, [name for name, value in flags.items() if value])
    checkpoint = _check(run, which, wanted, out, data or [])
    source = Source(checkpoint, data or [], device, threads or 0, run, which)
    _inspect(source, wanted, out, as_json=as_json)


@dataclass(frozen=True)
class Views:
    """The requested views. gates: a text, or None. probe: a file, or None. names: of the others."""

    gates: str | None
    probe: Path | None
    names: list[str]

    def words(self) -> list[str]:
        """Return the options, as on the command line."""
        words = [] if self.gates is None else ["--gates", self.gates]
        words += [] if self.probe is None else ["--probe", str(self.probe)]
        return words + [f"--{name}" for name in self.names]

    def command(self, source: Sequence[str], key: str) -> str:
        """Return the command line that makes a view's page again. source: see `Source.words`."""
        run, *options = source
        words = ["charlm", "inspect", run]
        if key == "gates" and self.gates is not None:
            words += ["--gates", self.gates]
        elif key == "probe":
            words += ["--probe", str(self.probe)]
        elif key != "overview":
            words.append(f"--{key}")
        return shlex.join(words + options)

    def of(
        self, inspection: "Inspection", home: Path
    ) -> "Iterator[tuple[str, Callable[[], View]]]":
        """Yield the name of each requested view and the function that makes it, in a fixed order;
        the overview if none is requested. home: the run."""
        if not self.words():
            yield "overview", lambda: inspection.overview(home)
        if (text := self.gates) is not None:
            yield "gates", lambda: inspection.gates(text)
        if (labelled := self.probe) is not None:
            yield "probe", lambda: inspection.probe(labelled)
        for name in self.names:
            yield name, getattr(inspection, "truncation" if name == "bptt" else name)


def _inspect(source: Source, wanted: Views, out: Path | None, *, as_json: bool) -> None:
    """Load the model, and read the text to be drawn as the user meant it; then `_write`."""
    from charlm.cli.escapes import read_escapes
    from charlm.runs.finding import home_of

    typed = wanted.gates
    if typed == "-":
        wanted = replace(wanted, gates=_text_of_stdin())
    loaded = source.load()
    if typed is not None and typed != "-":
        wanted = replace(wanted, gates=read_escapes("--gates", typed, loaded.vocabulary))
    target = out or home_of(loaded.checkpoint.folder) / PAGES
    _write(loaded, source.words(loaded), wanted, target, as_json=as_json)


def _write(
    loaded: "Loaded", source: Sequence[str], wanted: Views, target: Path, *, as_json: bool
) -> None:
    """Measure, print and write a page for each requested view, or else the overview."""
    from charlm.common.progress import within
    from charlm.reports import influence
    from charlm.reports import view as pages
    from charlm.runs.finding import home_of
    from charlm.terminal import console
    from charlm.terminal import view as terminal
    from charlm.terminal.progress import TaskProgress

    inspection, printed = loaded.inspect(), dict[str, Any]()
    for key, make in wanted.of(inspection, home_of(loaded.checkpoint.folder)):
        if key != "overview":
            console.print_status(f"measuring {key}", "aside")
        with TaskProgress(), within(key, 0, 1, 1):
            view = make()
        path = pages.write(view, target, wanted.command(source, key))
        printed[key] = view.data
        if not as_json:
            terminal.show(view)
        console.print_status(f"page  {path}")
        if key == "gradients":
            found = influence.write(inspection.name, *inspection.influence(), target)
            console.print_status(f"page  {found}")
    if as_json:
        console.print_json(printed)
    elif wanted.words():
        console.print_page(path)
    else:
        console.print_next("charlm", "inspect", *source, "--units", "--gradients")


def _text_of_stdin() -> str:
    """Read the text to be drawn. Raises: UsageError for its length, DataError."""
    from charlm.cli.streams import read_text
    from charlm.inspection.inputs import refuse_length

    text = read_text("the text")
    refuse_length(text)  # before anything is loaded
    return text


def _check(
    run: Path | None, which: str, wanted: Views, out: Path | None, data: Sequence[str]
) -> Path:
    """Check the arguments before torch is imported; return the folder of the checkpoint.

    Raises: UsageError, DataError, CheckpointError.
    """
    from charlm.common.files import refuse_links
    from charlm.runs.finding import find_checkpoint, home_of

    refuse_no_folder(out, "--out")
    if wanted.gates is not None and wanted.gates != "-":
        from charlm.inspection.inputs import refuse_length

        refuse_length(wanted.gates)
    if wanted.probe is not None:
        from charlm.inspection.inputs import read_labelled

        read_labelled(wanted.probe)
    folder = find_checkpoint(run, which)
    from charlm.runs.state import read_state  # only now: it takes a moment

    refuse_missing(read_state(folder)[1].data, data)
    if out is None:
        refuse_links(home_of(folder), [PAGES], ", or name another folder: --out FOLDER")
    return folder
