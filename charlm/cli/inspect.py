"""`charlm inspect`."""

import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from charlm import api
from charlm.cli.arguments import PAGES, InspectArguments
from charlm.cli.escapes import read_escapes
from charlm.cli.streams import read_text
from charlm.config.schema import to_toml
from charlm.inspect.inputs import refuse_length
from charlm.progress import within
from charlm.reports import influence
from charlm.reports import view as pages
from charlm.reports.inspection.views import Inspection
from charlm.reports.view import View
from charlm.runs.finding import home_of
from charlm.terminal import console
from charlm.terminal import view as terminal
from charlm.terminal.progress import TaskProgress


def inspect(
    checkpoint: Path,
    wanted: InspectArguments,
    out: Path | None,
    *,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure, print and write a page for each requested view, or else the overview."""
    if threads:
        torch.set_num_threads(threads)
    typed = wanted.gates not in (None, "-")
    if wanted.gates == "-":
        wanted = replace(wanted, gates=read_text("the text"))
    if wanted.gates is not None:
        refuse_length(wanted.gates)  # before anything is loaded
    with TaskProgress():
        loaded = api.load(checkpoint, device=device, data=wanted.data or None)
    if wanted.gates is not None and typed:
        text = read_escapes("--gates", wanted.gates, loaded.vocabulary)
        wanted = replace(wanted, gates=text)
    home = home_of(loaded.checkpoint.folder)
    target = out or home / PAGES
    look = Inspection(home.name, loaded.checkpoint, loaded.model, loaded.vocabulary)
    printed: dict[str, Any] = {}
    for key, make in _views(look, wanted, home):
        if key != "overview":
            console.print_status(f"measuring {key}", "aside")
        with TaskProgress(), within(key, 0, 1, 1):
            view = make()
        command = _command(loaded.name, key, wanted)
        path = pages.write(view, target, command)
        printed[key] = view.data
        if not as_json:
            terminal.show(view)
        console.print_status(f"page  {path}")
        if key == "gradients":
            found = influence.write(look.name, *look.influence(), target)
            console.print_status(f"page  {found}")
    if as_json:
        console.print_json(printed)
    elif wanted.words():
        console.print_page(path)
    else:
        console.print_next("charlm", "inspect", loaded.name, "--units", "--gradients")


def _views(
    look: Inspection, wanted: InspectArguments, home: Path
) -> Iterator[tuple[str, Callable[[], View]]]:
    """Yield the name of each requested view and the function that makes it, in a fixed order."""
    if not wanted.words():
        config = to_toml(look.checkpoint.config)
        yield "overview", lambda: look.overview(home, config)
    text = wanted.gates
    if text is not None:
        yield "gates", lambda: look.gates(text)
    if (labelled := wanted.probe) is not None:
        yield "probe", lambda: look.probe(labelled)
    makers = {
        "units": look.units,
        "gradients": look.gradients,
        "context": look.context,
        "errors": look.errors,
        "memorization": look.memorization,
        "bptt": look.truncation,
    }
    yield from ((name, make) for name, make in makers.items() if getattr(wanted, name))


def _command(run: str, key: str, wanted: InspectArguments) -> str:
    """Return the command line that makes a page again."""
    words = ["charlm", "inspect", run]
    if key == "gates" and wanted.gates is not None:
        words += ["--gates", wanted.gates]
    elif key == "probe":
        words += ["--probe", str(wanted.probe)]
    elif key != "overview":
        words.append(f"--{key}")
    for path in wanted.data:
        words += ["--data", path]
    return shlex.join(words)
