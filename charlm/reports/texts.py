"""The report of a comparison on several texts: a page that links those of each text."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from charlm.reports.comparison import PAGE, write_figures
from charlm.reports.page import render, write_page
from charlm.reports.picture import GREY, MARKERS, OTHERS, Picture, on_axes

Result = dict[str, Any]


def write(result: Result, folder: Path) -> None:
    """Write `report.html` and `figures/*.png`. Raises: CharlmError if they cannot be written."""
    figures = write_figures([_picture(pair) for pair in described(result)], folder)
    write_page(folder / PAGE, html(result, figures))


def html(result: Result, figures: list[Any]) -> str:
    """Make the page. All text in it is escaped, except the figures' SVG."""
    pairs = described(result)
    return render("texts.html.j2", result=result, pairs=pairs, figures=figures)


def described(result: Result) -> list[Result]:
    """List the pairs of cells that are shown: all of a few cells, else those with the best."""
    over = result["over_texts"]
    return [pair for pair in over["differences"] if pair["cells"] in over["described"]]


def _picture(pair: Result) -> Picture:
    """Return the figure of a pair's differences, on each text and over all."""
    one, other = pair["cells"]
    texts = len(pair["by_text"])
    lead, ahead = max(zip(pair["ahead"], pair["cells"], strict=True), key=lambda side: side[0])[
        ::-1
    ]
    listed = "; ".join(f"{own['mean']:+.3f} on {own['name']}" for own in pair["by_text"])
    return Picture(
        "difference-"
        + "-".join("".join(c if c.isalnum() else "_" for c in cell) for cell in (one, other)),
        f"{lead} is ahead of {other if lead == one else one} on {ahead} of {texts} texts",
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
