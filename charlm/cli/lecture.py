"""`charlm lecture`."""

import shlex
import time
from pathlib import Path

import torch

from charlm.lecture.chapter import Words
from charlm.lecture.lab import Lab
from charlm.lecture.page import lecture as measured
from charlm.reports import view as pages
from charlm.terminal import console
from charlm.terminal import view as terminal
from charlm.terminal.progress import TaskProgress


def lecture(
    data: str, out: Path, language: str, *, threads: int | None, as_json: bool, quiet: bool
) -> None:
    """Measure the lecture's claims, print them and write the page."""
    began = time.perf_counter()
    console.show_log(quiet=quiet)
    if threads:
        torch.set_num_threads(threads)
    with TaskProgress(quiet=quiet):
        view = measured(Lab(data), Words(language), began)
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
