"""The report of a comparison on several texts: a page that links those of each text."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from charlm.common.files import name_of
from charlm.comparison.over_texts import described
from charlm.reports.comparison import PAGE, write_figures
from charlm.reports.page import render, write_page
from charlm.reports.picture import GREY, MARKERS, OTHERS, Picture, on_axes

Result = dict[str, Any]


def write(result: Result, folder: Path) -> None:
    """Write `report.html` and `figures/*.png`. Raises: CharlmError if they cannot be written."""
    write_page(folder / PAGE, html(result, write_figures(pictures(result), folder)))


def pictures(result: Result) -> list[Picture]:
    """Return the figures: the differences of each pair of cells that is shown."""
    return [_picture(pair) for pair in described(result)]


def html(result: Result, figures: list[Any]) -> str:
    """Make the page. All text in it is escaped, except the figures' SVG."""
    pairs = described(result)
    return render("texts.html.j2", result=result, pairs=pairs, figures=figures)


def _picture(pair: Result) -> Picture:
    """Return the figure of a pair's differences, on each text and over all."""
    one, other = pair["cells"]
    texts = len(pair["by_text"])
    listed = "; ".join(f"{own['mean']:+.3f} on {own['name']}" for own in pair["by_text"])
    return Picture(
        name_of(f"difference-{one}-{other}"),
        f"{one} and {other}: {pair['lead']}",
        f"{one} minus {other}, bits per character; left of zero {one} predicts better. Bars: "
        "intervals of 95 %, on a text over the seeds, of the mean over the texts.",
        f"Chart of differences: {listed}; {pair['mean']:+.3f} over all texts.",
        on_axes(lambda axes, ink: _differences(axes, ink, pair)),
        (4.6, 1.2 + 0.3 * texts),
    )


def _differences(axes: Axes, ink: str, pair: Result) -> None:
    """Draw a pair's differences, a line for each text, and the mean below them."""
    one, other = pair["cells"]
    rows = [*pair["by_text"], {**pair, "name": f"all {len(pair['by_text'])} texts"}]
    for at, row in enumerate(rows):
        is_mean = at == len(rows) - 1
        colour = ink if is_mean else OTHERS
        if row["low"] is not None:
            axes.plot([row["low"], row["high"]], [at, at], color=colour, linewidth=1.6)
        marker = MARKERS[3] if is_mean else MARKERS[0]
        axes.plot([row["mean"]], [at], marker=marker, color=colour, markersize=6)
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f"{one} minus {other}, bits per character")
