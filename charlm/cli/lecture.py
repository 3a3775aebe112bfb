"""`charlm lecture`."""

import shlex
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from charlm.cli.options import Debug, Json, Quiet, Threads
from charlm.common.files import refuse_no_folder


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
    """Measure every claim of the lecture notes on this machine, in a minute or two."""
    refuse_no_folder(out, "--out")
    if data:
        from charlm.text.files import sources

        sources.refuse_absent(data)
        from charlm.config.schema import DataConfig  # only now: it takes a moment

        sources.refuse_missing(DataConfig(path=data))
    began = time.perf_counter()
    import torch  # only now: it takes two seconds

    from charlm.lecture.chapter import PACKAGE
    from charlm.lecture.lab import Lab
    from charlm.lecture.page import lecture as measured
    from charlm.reports import view as pages
    from charlm.reports.words import Words
    from charlm.terminal import console
    from charlm.terminal import view as terminal
    from charlm.terminal.progress import TaskProgress

    console.show_log(quiet=quiet)
    if threads:
        torch.set_num_threads(threads)
    with TaskProgress(quiet=quiet):
        view = measured(Lab(data), Words(language, PACKAGE), began)
    words = ["charlm", "lecture"]
    words += ["--data", data] if data else []
    words += ["--language", language] if language != "en" else []
    path = pages.write(view, out, shlex.join(words), pngs=False)
    if as_json:
        console.print_json(view.data)
    else:
        terminal.show_all(view)
    if as_json or quiet:
        console.print_status(f"page  {path}")
    else:
        console.print_page(path)
