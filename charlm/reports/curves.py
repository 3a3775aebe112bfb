"""The learning curves of several runs as one picture."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from charlm.reports.picture import Picture, drawable, on_axes, short, style_of
from charlm.runs.listing import ListedRun

LONGEST_NAME = 40


def learning_curves(runs: Sequence[ListedRun]) -> bytes:
    """Draw bits per character against characters read, with a line per run, as a PNG.

    runs: each with at least one evaluation.
    """
    lowest = min(runs, key=lambda run: min(row["bits_per_character"] for row in run.curve))
    bits = min(row["bits_per_character"] for row in lowest.curve)
    return Picture(
        "learning-curves",
        f"{_name(lowest)} reaches the lowest bits per character, {bits:.3f}",
        "Validation, at every evaluation.",
        f"Line chart: validation bits per character of {len(runs)} runs.",
        on_axes(lambda axes, ink: _draw(axes, runs)),
        size=(7.2, 4.4),
    ).png()


def _draw(axes: Axes, runs: Sequence[ListedRun]) -> None:
    for at, run in enumerate(runs):
        x = [row["characters"] for row in run.curve]
        y = [row["bits_per_character"] for row in run.curve]
        label = f"{_name(run)} ({run.cell})"
        axes.plot(x, y, label=label, markersize=4, **style_of(run.cell or "", at))
    axes.set_xlim(left=0)
    axes.margins(y=0.08)
    axes.set_xlabel("characters read")
    axes.set_ylabel("bits per character on validation")
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.legend(*axes.get_legend_handles_labels(), loc="upper right")


def _name(run: ListedRun) -> str:
    """Return a run's name, shortened and safe for a figure.

    A label that begins with an underscore would be left out of the legend.
    """
    shown = drawable(run.run)
    if len(shown) > LONGEST_NAME:
        shown = f"{shown[: LONGEST_NAME - 3]}..."
    shown = shown.replace("$", r"\$")  # else the start of a formula
    return f" {shown}" if shown.startswith("_") else shown
