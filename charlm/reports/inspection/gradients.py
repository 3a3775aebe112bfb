"""View of the gradient through time, and of the recurrent Jacobian."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from charlm.common.wording import counted
from charlm.inspection.gradients import ByLag
from charlm.inspection.toy import FACTORS
from charlm.reports.picture import COLOURS, GREY, MARKERS, STYLES, Picture, on_axes, plain_log
from charlm.reports.view import Section, View

Lags = Mapping[str, ByLag]
TOY_TITLE = "To the power of k: below 1 it vanishes, above 1 it explodes, unless tanh saturates"
TOY_CAPTION = (
    "h(t) = tanh(x(t) + b h(t-1)). Dotted: b to the power of k, as without tanh. Lines: with it, "
    "while x is noise; medians of 200 sequences."
)
SMALL = 0.01
"""Share of the gradient at lag 0 below which a gradient counts as vanished."""


def gradients_view(
    name: str,
    trained: Lags,
    fresh: Lags,
    by_scheme: Mapping[str, Lags],
    values: Sequence[NDArray[np.float64]],
    toy: Mapping[str, Sequence[Sequence[float]]],
) -> View:
    """Show gradients by lag: of the trained model, of a fresh one, of each initialisation; the
    singular values of the recurrent Jacobian, by layer; and the lecture's scalar example."""
    reach, before = _reach(trained["h"]), _reach(fresh["h"])
    lags = len(trained["h"].norms) - 1
    sections = [
        Section("How far back", [_reaching(trained, fresh)]),
        Section("Why: one step of the recurrence", [_spectrum(values, trained)]),
        Section("Before training: the initialisation", [_schemes(by_scheme)]),
        Section("The same with a single number", [toy_picture(FACTORS, toy)]),
    ]
    return View(
        "gradients",
        f"{name}: the gradient falls to a hundredth {_steps(reach, lags)} back",
        [
            f"Before training it did so {_steps(before, lags)} back.",
            _spectrum_sentence(values),
            f"Each curve is the median over {trained['h'].norms.shape[1]} places of the validation "
            "text; the bands hold the middle half of them.",
        ],
        sections,
        {
            "lags": list(range(lags + 1)),
            **{part: one.summary() for part, one in trained.items()},
            "fresh": {part: one.summary() for part, one in fresh.items()},
            "initialization": {
                scheme: {part: one.summary() for part, one in lagged.items()}
                for scheme, lagged in by_scheme.items()
            },
            "singular_values": [np.median(layer, axis=0).round(6).tolist() for layer in values],
        },
        about="Norms of d loss(t) / d state(t-k) over the units of all layers, by the equations.",
    )


def _reach(one: ByLag) -> int | None:
    """Return the first lag at which the median is a hundredth of that at lag 0."""
    median = np.median(one.norms, axis=1)
    below = np.flatnonzero(median < SMALL * median[0])
    return int(below[0]) if below.size else None


def _steps(reach: int | None, lags: int) -> str:
    if reach is None:
        return f"more than {counted(lags, 'step')}"
    return counted(reach, "step")


def _spectrum_sentence(values: Sequence[NDArray[np.float64]]) -> str:
    first = np.median(values[0], axis=0)
    grow, gone = int((first > 1).sum()), int((first < 0.5).sum())
    return (
        f"At a typical step {grow} of {len(first)} directions of layer 0's state are stretched, "
        f"{gone} shrink to less than half."
    )


def _reaching(trained: Lags, fresh: Lags) -> Picture:
    def draw(axes: Axes, ink: str) -> None:
        lines = [(f"{part}, {when}", one) for when, of in (("trained", trained), ("fresh", fresh))
                 for part, one in of.items()]  # fmt: skip
        for at, (label, one) in enumerate(lines):
            low, median, high = np.maximum(np.quantile(one.norms, (0.25, 0.5, 0.75), axis=1), 1e-30)
            turn, place = divmod(at, len(COLOURS))
            colour, style = COLOURS[place], STYLES[(place + turn) % len(STYLES)]
            axes.semilogy(median, color=colour, linestyle=style, label=label)
            axes.fill_between(range(len(low)), low, high, color=colour, alpha=0.2, linewidth=0)
        plain_log(axes)
        axes.set_xlabel("steps back, k")
        axes.set_ylabel("|d loss / d state|")
        axes.set_xlim(left=0)
        axes.legend(loc="upper right")

    h = _reach(trained["h"])
    lags = len(trained["h"].norms) - 1
    return Picture(
        "gradient-by-lag",
        f"A hundredth of the gradient is left after {_steps(h, lags)}",
        "Median and quartiles over places of the validation text, trained and freshly initialised.",
        "Line chart on a logarithmic scale: the gradient's norm against steps back.",
        on_axes(draw),
        size=(6.4, 3.8),
    )


def _spectrum(values: Sequence[NDArray[np.float64]], trained: Lags) -> Picture:
    parts = " and ".join(trained)

    def draw(axes: Axes, ink: str) -> None:
        for layer, found in enumerate(values):
            low, median, high = np.maximum(np.quantile(found, (0.25, 0.5, 0.75), axis=0), 1e-12)
            at = np.linspace(0, 1, len(median))
            colour = COLOURS[layer % len(COLOURS)]
            axes.semilogy(at, median, color=colour, label=f"layer {layer}")
            axes.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.axhline(1, color=GREY, linewidth=1, linestyle="--")
        axes.set_ylim(1e-4, None)
        plain_log(axes)
        axes.set_xlabel("directions, strongest first (share of all)")
        axes.set_ylabel("singular value")
        axes.legend(loc="upper right")

    share = float((np.median(values[0], axis=0) > 1).mean())
    return Picture(
        "singular-values",
        f"{100 * share:.0f} % of the directions grow in a step, the rest fade",
        f"Singular values of d state(t) / d state(t-1), the state being {parts}: median and "
        "quartiles along the text. Above the dashed line a direction grows, below it fades.",
        "Line chart on a logarithmic scale: singular values from largest to smallest.",
        on_axes(draw),
    )


def _schemes(by_scheme: Mapping[str, Lags]) -> Picture:
    ends = {name: float(np.median(one["h"].norms, axis=1)[-1]) for name, one in by_scheme.items()}
    best = max(ends, key=lambda name: ends[name])

    def draw(axes: Axes, ink: str) -> None:
        for at, (name, one) in enumerate(by_scheme.items()):
            median = np.maximum(np.median(one["h"].norms, axis=1), 1e-30)
            axes.semilogy(
                median, color=COLOURS[at], linestyle=STYLES[at], marker=MARKERS[at],
                markevery=max(1, len(median) // 6), markersize=4, label=name,
            )  # fmt: skip
        plain_log(axes)
        axes.set_xlabel("steps back, k")
        axes.set_ylabel("|d loss / d h|")
        axes.set_xlim(left=0)
        axes.legend(loc="upper right")

    return Picture(
        "gradient-by-initialization",
        f"Before training, {best} lets the gradient reach furthest",
        "Freshly initialised models that differ in their initialisation alone; medians.",
        "Line chart on a logarithmic scale: a line for each initialisation.",
        on_axes(draw),
    )


def toy_picture(
    factors: Sequence[float],
    found: Mapping[str, Sequence[Sequence[float]]],
    *,
    name: str = "toy",
    title: str = TOY_TITLE,
    caption: str = TOY_CAPTION,
) -> Picture:
    """Return the figure of the lecture's scalar example. found: see `toy`, a pair for each b."""

    def draw(axes: Axes, ink: str) -> None:
        for at, (b, powers, gradient) in enumerate(
            zip(factors, found["powers"], found["gradient"], strict=True)
        ):
            colour = COLOURS[at % len(COLOURS)]
            axes.semilogy(powers, color=colour, linestyle=":", linewidth=1)
            axes.semilogy(np.maximum(gradient, 1e-12), color=colour, label=f"b = {b:g}")
        axes.set_ylim(1e-10, 1e6)
        plain_log(axes)
        axes.set_xlabel("steps back, k")
        axes.set_ylabel("|d h(t) / d h(t-k)|")
        axes.legend(loc="lower left", ncols=2, fontsize=8)

    alternative = "Line chart on a logarithmic scale, a pair of lines for each b."
    return Picture(name, title, caption, alternative, on_axes(draw))
