"""View of a model's use of context, and of its predictions of closing brackets."""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from charlm.common.wording import counted
from charlm.inspection.brackets import ByDistance
from charlm.inspection.context import ContextUse
from charlm.reports.picture import COLOURS, MARKERS, STYLES, Picture, on_axes
from charlm.reports.view import Block, Section, Table, View

USED = 0.01
"""Bits per character: a smaller gain from context counts as none."""


def context_view(
    name: str,
    use: ContextUse,
    closed: Sequence[ByDistance],
    pairs: int,
    unit: str,
    per_character: float,
) -> View:
    """Show the model's gain from each length of context, in order or shuffled, and its predictions
    of closing brackets. pairs: number in the text. unit: name of a symbol. per_character: symbols
    per character."""
    use = replace(
        use,
        near=use.near * per_character,
        shuffled=use.shuffled * per_character,
        replaced=use.replaced * per_character,
    )
    bits, shuffled = _bits(use.near), _bits(use.shuffled)
    title, sentences = _said(name, use, unit)
    sections = [
        Section("How much of the past", [_near(use, bits, unit), _table(use, bits, unit)]),
        Section("Order, or only presence", [_far(use, unit), _far_table(use, unit)]),
        Section("Closing brackets and quotes", _brackets(closed, pairs, unit)),
    ]
    return View(
        "context",
        title,
        sentences,
        sections,
        {
            "characters": use.lengths,
            "bits_per_character": bits.round(4).tolist(),
            "far_characters": use.far_lengths,
            "far_shuffled": shuffled.round(4).tolist(),
            "far_replaced": _bits(use.replaced).round(4).tolist(),
            "closing": [asdict(row) for row in closed],
        },
        about=f"{use.near.shape[1]} places of the validation text, the same ones everywhere; each "
        "is predicted after reading the given number of "
        f"{unit}s from the initial state. Bits are per character of the text.",
    )


def _said(name: str, use: ContextUse, unit: str) -> tuple[str, list[str]]:
    """Return the title and the sentences."""
    bits = _bits(use.near)
    reach = _enough(use.lengths, bits)
    order = _enough(use.far_lengths, _bits(use.shuffled))
    longest = use.lengths[-1]
    if reach == longest:
        title = f"{name} uses {counted(reach, unit)} at least, the longest context measured"
        first = f"The longest context that was measured, {counted(reach, unit)}, still helps."
    elif reach:
        title = f"{name} uses {_last(reach, unit)}; older ones are worth less than {USED} bits"
        first = f"Given only {_last(reach, unit)} it is within {USED} bits of the score with "
        first += f"{longest:,}."
    else:
        title = f"{name} uses no context: all of it is worth less than {USED} bits"
        first = f"Without any it is within {USED} bits of the score with {counted(longest, unit)}."
    beyond = f" beyond {_last(order, unit)}" if order else ""
    disorder = f"A random order of the context{beyond} costs less than {USED} bits."
    return title, [first, disorder, _early(use, bits, unit)]


def _last(count: int, unit: str) -> str:
    return f"the last {unit}" if count == 1 else f"the last {counted(count, unit)}"


def _bits(nats: NDArray[np.float64]) -> NDArray[np.float64]:
    means: NDArray[np.float64] = nats.mean(1) / math.log(2)
    return means


def _enough(lengths: Sequence[int], bits: NDArray[np.float64]) -> int:
    """Return the shortest context from which on no longer one gains or loses `USED` bits."""
    far = np.abs(bits - bits[-1]) > USED
    last = int(np.flatnonzero(far)[-1]) + 1 if far.any() else 0
    return lengths[min(last, len(lengths) - 1)]


def _early(use: ContextUse, bits: NDArray[np.float64], unit: str) -> str:
    if len(bits) < 3:
        return "The text is too short to say more."
    half = len(bits) // 2
    gained, all_of = bits[half] - bits[-1], bits[0] - bits[-1]
    return (
        f"Context gains {max(0.0, all_of):.2f} bits in all, {max(0.0, gained):.2f} of them from "
        f"further back than {counted(use.lengths[half], unit)}."
    )


def _near(use: ContextUse, bits: NDArray[np.float64], unit: str) -> Picture:
    def draw(axes: Axes, ink: str) -> None:
        at = range(len(bits))
        error = use.near.std(1) / math.sqrt(use.near.shape[1]) / math.log(2)
        axes.errorbar(at, bits, yerr=error, color=COLOURS[0], marker="o", markersize=4, capsize=2)
        axes.set_xticks(list(at), [f"{k}" for k in use.lengths], fontsize=8)
        axes.set_xlabel(f"{unit}s of context")
        axes.set_ylabel("bits per character")

    enough = _enough(use.lengths, bits)
    verb = "is" if enough == 1 else "are"
    return Picture(
        "context-length",
        f"{counted(enough, unit)} of context {verb} as good as {use.lengths[-1]:,}",
        "Bars: the standard error over places.",
        "Line chart: bits per character fall with the length of the context.",
        on_axes(draw),
    )


def _table(use: ContextUse, bits: NDArray[np.float64], unit: str) -> Table:
    rows = [
        (f"{k:,}", f"{value:.3f}", f"{value - bits[-1]:+.3f}")
        for k, value in zip(use.lengths, bits, strict=True)
    ]
    return Table((f"{unit}s of context", "bits per character", "against the longest"), rows)


def _far(use: ContextUse, unit: str) -> Picture:
    far = use.far_lengths[-1]
    lines = {"in a random order": use.shuffled, "text from elsewhere": use.replaced}

    def draw(axes: Axes, ink: str) -> None:
        at = range(len(use.far_lengths))
        near = use.near[: len(use.far_lengths)]
        for number, (label, nats) in enumerate({**lines, "nothing": near}.items()):
            axes.plot(
                at, _bits(nats), color=COLOURS[number], linestyle=STYLES[number],
                marker=MARKERS[number], markersize=4, label=f"before them: {label}",
            )  # fmt: skip
        axes.set_xticks(list(at), [f"{k}" for k in use.far_lengths], fontsize=8)
        axes.set_xlabel(f"last {unit}s left unchanged")
        axes.set_ylabel("bits per character")
        axes.legend(loc="upper right", fontsize=8)

    order = _enough(use.far_lengths, _bits(use.shuffled))
    return Picture(
        "context-order",
        f"Order matters for {_last(order, unit)}" if order else "Order does not matter",
        f"The last k {unit}s unchanged; those before them, {far} in all, are put into a "
        "random order, exchanged for a piece of the train split, or left out.",
        f"Line chart: bits per character against how many of the last {unit}s are intact.",
        on_axes(draw),
    )


def _far_table(use: ContextUse, unit: str) -> Table:
    near = _bits(use.near[: len(use.far_lengths)])
    rows = [
        (f"{k}", *(f"{value:.3f}" for value in values))
        for k, *values in zip(
            use.far_lengths, near, _bits(use.shuffled), _bits(use.replaced), strict=True
        )
    ]
    heading = (f"intact {unit}s", "nothing before", "random order before", "other text before")
    return Table(heading, rows, "Bits per character.")


def _brackets(closed: Sequence[ByDistance], pairs: int, unit: str) -> list[Block]:
    if not closed:
        return [
            f"The validation text closes {pairs} brackets or quotes: too few to say anything. "
            "A text with many, such as a program, shows it."
        ]
    rows = [
        (
            f"{row.least} to {row.most}",
            f"{row.count:,}",
            f"{100 * row.model:.0f} %",
            f"{100 * row.ngram:.0f} %",
        )
        for row in closed
    ]
    heading = (f"{unit}s since it was opened", "pairs", "model", "n-gram model")
    about = (
        "Share of the closing brackets and quotes that each found most probable where they came."
    )
    return [Table(heading, rows, about)]
