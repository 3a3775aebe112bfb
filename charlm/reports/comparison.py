"""The report of a comparison: one page that needs nothing else, and its figures as PNG."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from charlm.compare.table import spread_text
from charlm.errors import CharlmError
from charlm.files import replace
from charlm.reports.figures import pictures
from charlm.text.display import visible

PAGE, FIGURES = "report.html", "figures"


def write(result: dict[str, Any], folder: Path) -> None:
    """Write `report.html` and `figures/*.png`. Raises: CharlmError where they cannot be written."""
    drawn = pictures(result)
    try:
        (folder / FIGURES).mkdir(exist_ok=True)
        for picture in drawn:
            replace(folder / FIGURES / f"{picture.name}.png", picture.png())
        figures = [(picture, Markup(picture.svg())) for picture in drawn]  # noqa: S704 (our own)
        replace(folder / PAGE, html(result, figures).encode("utf-8", "replace"))
    except OSError as error:
        raise CharlmError(
            f"cannot write the report to {folder}: {error.strerror}",
            "make room and run the same command again: finished runs are reused",
        ) from None


def html(result: dict[str, Any], figures: list[Any]) -> str:
    """Make the page. All text in it is escaped; only the figures are taken as they are."""
    environment = Environment(
        loader=PackageLoader("charlm.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.filters["spread"] = spread_text
    return environment.get_template("report.html.j2").render(result=result, figures=figures)
