"""The figures of a comparison, drawn from its result only (`compare.json`)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from charlm.reports.picture import (
    GREY,
    MARKERS,
    Picture,
    colour_of,
    label_powers,
    on_axes,
    short,
    style_of,
)

Result = dict[str, Any]


def pictures(result: Result) -> list[Picture]:
    """List all figures for which a result has the data."""
    finals = ", ".join(
        f"{row['cell']} at {row['bits_per_character']['mean']:.3f}" for row in result["rows"]
    )
    best = min(result["rows"], key=lambda row: row["bits_per_character"]["mean"])
    fastest = max(result["rows"], key=lambda row: row["characters_per_second"])
    drawn = [
        *([_answers_picture(result["task"])] if result["task"] else []),
        Picture(
            "curves-characters",
            f"{best['cell']} ends lowest, at {best['bits_per_character']['mean']:.3f} bits",
            "Bits per character on validation, the mean over seeds, as far as all of them went; "
            "the band spans "
            "them. Dashed: counting alone.",
            f"Line chart: validation loss falls with the characters read; {finals}.",
            on_axes(lambda axes, ink: _curves(axes, ink, result, "characters")),
        ),
        Picture(
            "curves-seconds",
            _first_by_the_clock(result),
            "The same runs, by the time that training took on this machine.",
            f"Line chart: validation loss falls with the seconds of training; {finals}.",
            on_axes(lambda axes, ink: _curves(axes, ink, result, "seconds")),
        ),
        Picture(
            "quality-speed",
            f"{best['cell']} predicts best"
            + (" and trains fastest" if fastest is best else f", {fastest['cell']} trains fastest"),
            "Lower and further right is better. Bars: the standard deviation over seeds.",
            "Scatter chart: "
            + "; ".join(
                f"{row['cell']} trains at {row['characters_per_second']:,.0f} characters per "
                f"second and reaches {row['bits_per_character']['mean']:.3f} bits"
                for row in result["rows"]
            )
            + ".",
            on_axes(lambda axes, ink: _quality_against_speed(axes, ink, result)),
        ),
    ]
    if result["search"]:
        drawn.append(_search_picture(result["search"]))
    for key, when in (
        ("gradient_trained", "after training"),
        ("gradient_fresh", "before training"),
    ):
        if all(run[key] for run in result["runs"]):
            drawn.append(_gradient_picture(result, key, when))
    return drawn


def _answers_picture(task: Result) -> Picture:
    shares = "; ".join(
        f"{row['cell']} "
        + ", ".join(f"{100 * one['right']['mean']:.0f} %" for one in row["scores"])
        for row in task["rows"]
    )
    listed = ", ".join(f"{test['times']}" for test in task["tests"])
    return Picture(
        "answers",
        _furthest(task),
        "Share of the examples whose whole answer is right, the mean over seeds; the band spans "
        f"them. Dashed: {100 * task['least_share']:g} %. Dotted: guessing.",
        f"Line chart: the share of right answers at {listed} times the longest length trained: "
        f"{shares}.",
        on_axes(lambda axes, ink: _answers(axes, task)),
    )


def _furthest(task: Result) -> str:
    """Return the sentence on the cells that solve a task at the longest length."""
    reached = max(row["solved_to"] or 0 for row in task["rows"])
    cells = [row["cell"] for row in task["rows"] if row["solved_to"] == reached]
    if not cells:
        return f"No cell solves {task['name']} at the lengths trained"
    named = cells[0] if len(cells) == 1 else f"{len(cells)} cells"
    return f"{named} solve{'s' * (len(cells) == 1)} {task['name']} at {reached}x"


def _search_picture(search: Result) -> Picture:
    means = {row["cell"]: [one["mean"] for one in row["expected"]] for row in search["rows"]}
    best, count = min(means, key=lambda cell: means[cell][-1]), search["trials"]
    ends = "; ".join(
        f"{cell} {bits[0]:.3f} for 1 trial and {bits[-1]:.3f} for {count}"
        for cell, bits in means.items()
    )
    return Picture(
        "best-of-trials",
        f"Best of {count} trials: {best} is lowest, at {means[best][-1]:.3f} bits",
        "Expected bits per character on validation of the best of n random trials. The "
        "bands are intervals over the draw of the trials, nominally of 95 %, cut off at the "
        "figure’s edge. "
        "Each trial is one run; one that diverged counts as a uniform guess, "
        f"{search['uniform']:.3f} bits.",
        f"Line chart: the expected best falls with the number of trials: {ends}.",
        on_axes(lambda axes, ink: _search(axes, search)),
    )


def _gradient_picture(result: Result, key: str, when: str) -> Picture:
    ends = "; ".join(
        f"{cell} {_by_lag(result, key, cell, 'h')[0]:.1e} at 0 and "
        f"{_by_lag(result, key, cell, 'h')[-1]:.1e} at the last"
        for cell in _cells(result)
    )
    lags = len(_by_lag(result, key, _cells(result)[0], "h")) - 1
    furthest = max(_cells(result), key=lambda cell: _by_lag(result, key, cell, "h")[-1])
    return Picture(
        key.replace("_", "-"),
        f"{when.capitalize()}, most gradient reaches {lags} steps back in {furthest}",
        "Norm of d loss(t) / d h(t-k) against k, the geometric mean over seeds. Thin dotted: the "
        "cell state c, where there is one.",
        f"Line chart on a logarithmic scale: the gradient shrinks with the steps back: {ends}.",
        on_axes(lambda axes, ink: _gradient(axes, result, key)),
    )


def _first_by_the_clock(result: Result) -> str:
    """Return the sentence on the cell that is ahead when the first of them has ended."""
    curves = {
        cell: [run["curve"] for run in result["runs"] if run["cell"] == cell]
        for cell in _cells(result)
    }
    end = min(curve[-1]["seconds"] for own in curves.values() for curve in own)

    def bits(own: list[list[dict[str, float]]]) -> float:
        return float(
            np.mean(
                [
                    np.interp(
                        end,
                        [row["seconds"] for row in curve],
                        [row["bits_per_character"] for row in curve],
                    )
                    for curve in own
                ]
            )
        )

    ahead = min(curves, key=lambda cell: bits(curves[cell]))
    return f"After {end:.3g} seconds of training {ahead} is ahead"


# ---- drawing ------------------------------------------------------------------------------------


def _answers(axes: Axes, task: Result) -> None:
    times = [test["times"] for test in task["tests"]]
    places = range(len(times))
    for at, row in enumerate(task["rows"]):
        shares = 100 * np.array([one["right"]["values"] for one in row["scores"]])
        style = style_of(row["cell"], at)
        axes.plot(places, shares.mean(1), label=row["cell"], markersize=5, **style)
        low, high = shares.min(1), shares.max(1)
        axes.fill_between(places, low, high, color=style["color"], alpha=0.15, linewidth=0)
    axes.axhline(100 * task["least_share"], color=GREY, linestyle=(0, (4, 3)), linewidth=1)
    chances = [100 * test["chance"] for test in task["tests"]]
    axes.plot(places, chances, color=GREY, linestyle=":", linewidth=1)
    axes.set_xticks(places, [f"{one}x" for one in times])
    axes.set_ylim(-4, 104)
    axes.set_xlabel("length, by the longest trained")
    axes.set_ylabel("% of answers right")
    axes.legend(loc="lower left")


def _search(axes: Axes, search: Result) -> None:
    for at, row in enumerate(search["rows"]):
        style = style_of(row["cell"], at)
        n, mean, low, high = (
            [one[key] for one in row["expected"]] for key in ("trials", "mean", "low", "high")
        )
        style["markevery"] = max(1, len(n) // 10)
        axes.plot(n, mean, label=row["cell"], markersize=4, **style)
        if low[0] is not None:
            axes.fill_between(n, low, high, color=style["color"], alpha=0.07, linewidth=0)
            for end in (low, high):
                axes.plot(n, end, color=style["color"], linestyle=":", linewidth=0.8)
    means = [one["mean"] for row in search["rows"] for one in row["expected"]]
    margin = 0.15 * (max(means) - min(means)) or 0.01
    axes.set_ylim(min(means) - margin, max(means) + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("random trials, n")
    axes.set_ylabel("bits per character, best of n")
    axes.legend(loc="upper right")


def _curves(axes: Axes, ink: str, result: Result, over: str) -> None:
    for at, cell in enumerate(_cells(result)):
        curves = [run["curve"] for run in result["runs"] if run["cell"] == cell]
        length = min(map(len, curves))
        x = np.mean([[row[over] for row in curve[:length]] for curve in curves], axis=0)
        y = np.array([[row["bits_per_character"] for row in curve[:length]] for curve in curves])
        axes.plot(x, y.mean(0), label=cell, markersize=4, **style_of(cell, at))
        axes.fill_between(x, y.min(0), y.max(0), color=colour_of(cell), alpha=0.2, linewidth=0)
    ngram = result["baselines"]["ngram"]
    axes.axhline(ngram, color=GREY, linestyle=(0, (4, 3)), linewidth=1)
    axes.annotate(
        f"{result['ngram_order']}-gram",
        (0.01, ngram),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        color=ink,
    )
    axes.margins(y=0.08)
    axes.set_xlim(left=0)
    axes.set_xlabel("characters read" if over == "characters" else "seconds of training")
    axes.set_ylabel("bits per character")
    if over == "characters":
        axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.legend(loc="upper right")


def _quality_against_speed(axes: Axes, ink: str, result: Result) -> None:
    for at, row in enumerate(result["rows"]):
        bits = row["bits_per_character"]
        axes.errorbar(
            row["characters_per_second"],
            bits["mean"],
            yerr=bits["std"] or 0.0,
            capsize=3,
            markersize=7,
            color=colour_of(row["cell"]),
            marker=MARKERS[at % len(MARKERS)],
            linestyle="none",
        )
        axes.annotate(
            row["cell"],
            (row["characters_per_second"], bits["mean"]),
            xytext=(8, 5),
            textcoords="offset points",
            color=ink,
        )
    fastest = max(row["characters_per_second"] for row in result["rows"])
    axes.set_xlim(0, 1.25 * fastest)
    axes.margins(y=0.25)
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.set_xlabel("characters per second, training")
    axes.set_ylabel("bits per character")


def _gradient(axes: Axes, result: Result, key: str) -> None:
    for at, cell in enumerate(_cells(result)):
        values = _by_lag(result, key, cell, "h")
        style = {**style_of(cell, at), "markevery": max(1, len(values) // 8)}
        axes.semilogy(range(len(values)), values, label=cell, markersize=4, **style)
        own = [run[key] for run in result["runs"] if run["cell"] == cell]
        if "c" in own[0]:
            c = _by_lag(result, key, cell, "c")
            axes.semilogy(range(len(c)), c, color=colour_of(cell), linestyle=":", linewidth=1)
    label_powers(axes)
    axes.set_xlabel("steps back, k")
    axes.set_ylabel("norm of the gradient")
    axes.legend(loc="upper right")


def _by_lag(result: Result, key: str, cell: str, part: str) -> Sequence[float]:
    """Return the geometric mean over seeds of a gradient, by lag."""
    own = [run[key][part] for run in result["runs"] if run["cell"] == cell]
    means: list[float] = np.exp(np.log(np.maximum(own, 1e-300)).mean(0)).tolist()
    return means


def _cells(result: Result) -> list[str]:
    return [row["cell"] for row in result["rows"]]
