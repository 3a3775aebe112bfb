"""View of the causes of the loss."""

from collections.abc import Sequence
from dataclasses import asdict

from matplotlib.axes import Axes

from charlm.inspection.losses import Cause
from charlm.reports.picture import COLOURS, Picture, on_axes
from charlm.reports.view import Section, Table, View


def errors_view(name: str, causes: Sequence[Cause], bits: float, size: int) -> View:
    """Show the causes of the loss. bits: total per character. size: characters of the text."""
    largest = max(causes, key=lambda cause: cause.share)
    dearest = max(causes, key=lambda cause: cause.bits)
    return View(
        "errors",
        f"{name}: the largest part of the loss, {100 * largest.share:.0f} %: {largest.name}",
        [
            f"That part is {100 * largest.characters:.0f} % of the characters.",
            f"The dearest characters: {dearest.name}, {dearest.bits:.2f} bits each.",
        ],
        [Section("", [_picture(causes), _table(causes, bits)])],
        [asdict(cause) for cause in causes],
        about=f"{size:,} symbols of the validation text, {bits:.3f} bits per character. Every "
        "symbol belongs to the first cause of the list that applies, so the shares add up. "
        "Source of the method: Karpathy, Johnson and Fei-Fei 2015, section 4.4.",
    )


def _picture(causes: Sequence[Cause]) -> Picture:
    largest = max(causes, key=lambda cause: cause.share)

    def draw(axes: Axes, ink: str) -> None:
        names = [cause.name for cause in causes][::-1]
        shares = [100 * cause.share for cause in causes][::-1]
        axes.barh(names, shares, color=COLOURS[0])
        for at, share in enumerate(shares):
            axes.annotate(
                f"{share:.0f} %", (share, at), xytext=(3, 0), textcoords="offset points",
                va="center", color=ink, fontsize=8,
            )  # fmt: skip
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("share of the loss, %")
        axes.margins(x=0.12)

    return Picture(
        "loss-shares",
        f"The largest part of the loss, {100 * largest.share:.0f} %: {largest.name}",
        "Shares of all bits of the validation text.",
        "Bar chart: " + "; ".join(f"{c.name} {100 * c.share:.0f} %" for c in causes) + ".",
        on_axes(draw),
        size=(6.4, 3.4),
    )


def _table(causes: Sequence[Cause], bits: float) -> Table:
    rows = [
        (
            cause.name,
            f"{100 * cause.share:.1f} %",
            f"{cause.share * bits:.3f}",
            f"{100 * cause.characters:.1f} %",
            f"{cause.bits:.2f}",
        )
        for cause in causes
    ]
    heading = ("cause", "of the loss", "bits per character", "of the characters", "bits each")
    return Table(heading, rows, "In the order in which an oracle would remove them.")
