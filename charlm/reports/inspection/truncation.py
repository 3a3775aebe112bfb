"""View of the error of truncated backpropagation, and of its effect on training."""

import math
from collections.abc import Sequence
from dataclasses import asdict

from matplotlib.axes import Axes

from charlm.comparison.truncation import TrainedAt
from charlm.inspection.truncation import TruncationError
from charlm.reports.picture import COLOURS, GREY, Picture, on_axes
from charlm.reports.view import Section, Table, View


def truncation_view(
    name: str,
    errors: Sequence[TruncationError],
    trained: Sequence[tuple[str, TrainedAt]],
    own_length: int,
) -> View:
    """Show the error of truncated gradients, and small models trained with windows of different
    lengths. own_length: of the run's own windows."""
    near = min(errors, key=lambda one: abs(math.log2(one.steps / own_length)))
    full = errors[-1].steps
    by_updates = [one for alike, one in trained if alike == "updates"]
    by_characters = [one for alike, one in trained if alike == "characters"] + by_updates[-1:]
    best_updates = min(by_updates, key=lambda one: one.loss)
    best_characters = min(by_characters, key=lambda one: one.loss)
    tables = [
        _trained("As many updates.", by_updates),
        _trained("As many symbols.", sorted(by_characters, key=lambda one: one.steps)),
    ]
    return View(
        "bptt",
        f"{name}: cut after {near.steps} steps, the gradient is {angle(near):.0f}° off the full "
        "one",
        [
            f"Its length is {100 * near.norm:.0f} % of the full gradient's, which goes back {full} "
            "steps.",
            f"Trained with as many updates, windows of {best_updates.steps} are best: each of them "
            "reads more.",
            f"Trained on as many symbols, windows of {best_characters.steps} are best: shorter "
            "windows make more updates, longer ones better gradients.",
        ],
        [
            Section(
                "The gradient's error",
                [angle_picture(errors, own_length=own_length), _table(errors)],
            ),
            Section("Training with windows of different lengths", tables),
        ],
        {
            "steps": [one.steps for one in errors],
            "cosine": [round(one.cosine, 6) for one in errors],
            "norm": [round(one.norm, 6) for one in errors],
            "trained": [{"equal": alike} | asdict(one) for alike, one in trained],
        },
        about="The loss is the same on both sides: all symbols of stretches of the validation "
        "text, "
        "after a warm-up. The truncated gradient is the sum over windows, each from the final "
        "state of the last one.",
    )


def angle(one: TruncationError) -> float:
    """Return the angle between the truncated and the full gradient, in degrees."""
    return math.degrees(math.acos(max(-1.0, min(1.0, one.cosine))))


def angle_picture(
    errors: Sequence[TruncationError],
    *,
    name: str = "truncation-error",
    title: str = "The shorter the window, the further the gradient points astray",
    caption: str = "The mean over four gradients of eight stretches each.",
    own_length: int = 0,
) -> Picture:
    """Return the figure of the angle between truncated and full gradient. own_length: of a run's
    windows, marked unless it is 0."""

    def draw(axes: Axes, ink: str) -> None:
        x = [one.steps for one in errors]
        axes.plot(x, [angle(one) for one in errors], color=COLOURS[0], marker="o", markersize=4)
        axes.set_xscale("log", base=2)
        axes.set_xticks(x, [str(step) for step in x], fontsize=8)
        if own_length:
            axes.axvline(own_length, color=GREY, linestyle="--", linewidth=1)
            axes.annotate(
                "this run", (own_length, 0.92), xycoords=("data", "axes fraction"), xytext=(3, 0),
                textcoords="offset points", color=ink, fontsize=8,
            )  # fmt: skip
        axes.set_ylim(bottom=0)
        axes.set_xlabel("steps before the gradient is cut, T")
        axes.set_ylabel("angle to the full gradient, degrees")

    ends = ", ".join(f"{angle(one):.0f} degrees at {one.steps}" for one in errors)
    alternative = f"Line chart: the angle falls with the length of the window; {ends}."
    return Picture(name, title, caption, alternative, on_axes(draw))


def _table(errors: Sequence[TruncationError]) -> Table:
    rows = [
        (f"{one.steps}", f"{angle(one):.1f}°", f"{one.cosine:.4f}", f"{100 * one.norm:.1f} %")
        for one in errors
    ]
    return Table(("T", "angle", "cosine", "length against the full one"), rows)


def _trained(about: str, rows: Sequence[TrainedAt]) -> Table:
    lines = [
        (
            f"{one.steps}",
            f"{one.updates:,}",
            f"{one.characters:,}",
            f"{one.seconds:.1f}",
            f"{one.loss / math.log(2):.3f}",
        )
        for one in rows
    ]
    heading = ("T", "updates", "symbols", "seconds", "bits per symbol, validation")
    return Table(heading, lines, about)
