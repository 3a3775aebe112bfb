"""The page of a study: a table of all its comparisons, with the published figures."""

from pathlib import Path
from typing import Any

from charlm.reports.page import render, write_page

PAGE = "study.html"


def write(result: dict[str, Any], folder: Path) -> None:
    """Write `study.html`. Raises: CharlmError if it cannot be written."""
    write_page(folder / PAGE, render("study.html.j2", result=result))
