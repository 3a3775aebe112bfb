"""The report of a comparison: one self-contained page, and its figures as PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from charlm.common.errors import CharlmError
from charlm.common.files import replace
from charlm.reports.figures import pictures
from charlm.reports.page import render, write_page
from charlm.reports.picture import Picture

PAGE, FIGURES = "report.html", "figures"


def write(result: dict[str, Any], folder: Path) -> None:
    """Write `report.html` and `figures/*.png`. Raises: CharlmError if they cannot be written."""
    write_page(folder / PAGE, html(result, write_figures(pictures(result), folder)))


def write_figures(drawn: Sequence[Picture], folder: Path) -> list[tuple[Picture, Markup]]:
    """Write figures as PNG; return each with its SVG, for the page. Raises: CharlmError."""
    try:
        (folder / FIGURES).mkdir(exist_ok=True)
        for picture in drawn:
            replace(folder / FIGURES / f"{picture.name}.png", picture.png())
    except OSError as error:
        raise CharlmError(
            f"cannot write the report to {folder}: {error.strerror}",
            "make room and run the same command again: finished runs are reused",
        ) from None
    return [(picture, Markup(picture.svg())) for picture in drawn]  # noqa: S704 (our own)


def html(result: dict[str, Any], figures: list[Any]) -> str:
    """Make the page. All text in it is escaped, except the figures' SVG."""
    return render("report.html.j2", result=result, figures=figures)
