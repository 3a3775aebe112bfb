"""Learning curves of a comparison: their crossings, and how far each still falls at its end."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from statistics import fmean
from typing import Any, Literal

from charlm.comparison.analysis import RunAnalysis

FEW = 3
"""Most cells of which every pair is described in sentences."""
LAST_SHARE = 0.2
"""Share of a run that counts as its end."""

Axis = Literal["characters", "seconds", "operations"]
EQUAL: dict[Axis, str] = {
    "characters": "equal characters",
    "seconds": "equal seconds",
    "operations": "equal multiply-adds",
}
Crossing = dict[str, Any]
"""A crossing of two curves, as in compare.json."""


@dataclass(frozen=True)
class Curve:
    """A cell's validation curve, the mean over seeds, at every evaluation that all of them reached.

    Units: characters trained; seconds of training; bits per character; steps. operations:
    multiply-adds for a symbol, forward.
    """

    label: str
    characters: list[float]
    seconds: list[float]
    bits: list[float]
    steps: list[float]
    operations: int = 1

    def along(self, axis: Axis) -> list[float]:
        """Return the places of the evaluations on an axis."""
        if axis == "operations":  # two symbols take twice as many
            return [self.operations * one for one in self.characters]
        return self.seconds if axis == "seconds" else self.characters

    def at(self, place: float, axis: Axis = "characters") -> float:
        """Return the bits at a place, interpolated linearly and clamped to the ends."""
        return _interpolated(self.along(axis), self.bits, place)

    def seconds_to(self, target: float) -> float | None:
        """Return the training seconds until the curve reached `target`; None if it never did."""
        for at, bits in enumerate(self.bits):
            if bits <= target:
                if at == 0:
                    return self.seconds[0]
                share = (self.bits[at - 1] - target) / (self.bits[at - 1] - bits)
                return self.seconds[at - 1] + share * (self.seconds[at] - self.seconds[at - 1])
        return None

    def last_fall(self) -> float | None:
        """Return the fall in bits over the last `LAST_SHARE` of the characters; None for a single
        evaluation."""
        if len(self.bits) < 2:
            return None
        return self.at((1 - LAST_SHARE) * self.characters[-1]) - self.bits[-1]


def mean_curve(label: str, group: Sequence[RunAnalysis], operations: int = 1) -> Curve:
    """Average the curves of a cell's runs over the seeds. operations: see `Curve`."""
    columns = list(zip(*(one.curve for one in group), strict=False))
    characters, seconds, bits, steps = (
        [fmean(row[key] for row in column) for column in columns]
        for key in ("characters", "seconds", "bits_per_character", "step")
    )
    return Curve(label, characters, seconds, bits, steps, operations)


def describe(curves: Sequence[Curve]) -> dict[str, Any]:
    """Return the last falls, the crossings, and sentences that describe both."""
    pairs = list(combinations(curves, 2))
    by_characters = [one for pair in pairs for one in _crossings(*pair, "characters")]
    by_seconds = [one for pair in pairs for one in _crossings(*pair, "seconds")]
    crossed, by_clock = _by_pair(by_characters), _by_pair(by_seconds)
    shown, shown_by_clock = _described(curves, crossed), _described(curves, by_clock)
    sentences = [
        *_falling(curves),
        *(_sentence(found, "") for found in shown),
        *(_sentence(found, "By the clock ") for found in shown_by_clock),
    ]
    if pairs and not (crossed or by_clock):
        sentences.append("No two curves cross.")
    if left := len(crossed) + len(by_clock) - len(shown) - len(shown_by_clock):
        sentences.append(f"{left} crossings of other pairs are in the JSON.")
    orders = [_order(curves, axis) for axis in EQUAL]
    if pairs:
        sentences.append(_compared(orders))
    return {
        "last_share": LAST_SHARE,
        "falls": [{"cell": one.label, "bits_per_character": one.last_fall()} for one in curves],
        "crossings": by_characters,
        "crossings_by_seconds": by_seconds,
        "orders": orders,
        "sentences": sentences,
    }


def _order(curves: Sequence[Curve], axis: Axis) -> dict[str, Any]:
    """Return the cells in the order of their bits where the first curve ends on an axis."""
    place = min(one.along(axis)[-1] for one in curves)
    ranked = sorted(curves, key=lambda one: one.at(place, axis))
    return {
        "equal": axis,
        "at": round(place, 3),
        "cells": [one.label for one in ranked],
        "bits_per_character": [one.at(place, axis) for one in ranked],
    }


def _compared(orders: Sequence[dict[str, Any]]) -> str:
    """Describe the order of the cells at equal characters, seconds and multiply-adds."""
    first = orders[0]
    others = [one for one in orders[1:] if one["cells"] != first["cells"]]
    listed = " < ".join(first["cells"])
    if not others:
        return f"The order is the same by characters, seconds and multiply-adds: {listed} in bits."
    changed = "; ".join(f"at {EQUAL[one['equal']]} {' < '.join(one['cells'])}" for one in others)
    return f"The order changes: at {EQUAL[first['equal']]} {listed} in bits, {changed}."


def _falling(curves: Sequence[Curve]) -> list[str]:
    """Describe the curves that fall, or rise, at their ends."""
    sentences = []
    for verb, sign in (("still fall", 1), ("rise again", -1)):
        known = [
            f"{one.label} by {abs(fall):.3f}"
            for one in curves
            if (fall := one.last_fall()) is not None and sign * fall > 0
        ]
        if known:
            sentences.append(
                f"Over the last {100 * LAST_SHARE:.0f} % of the characters, while the learning "
                f"rate comes down, these curves {verb}: {', '.join(known)} bits."
            )
    return sentences


def _crossings(one: Curve, other: Curve, axis: Axis) -> list[Crossing]:
    """Return the places at which two mean curves cross, and which is ahead from there on."""
    own, others = one.along(axis), other.along(axis)
    start, end = max(own[0], others[0]), min(own[-1], others[-1])
    crossings = []
    before: tuple[float, float] | None = None  # last place with a gap that is not 0, the gap
    for place in sorted({place for place in (*own, *others) if start <= place <= end}):
        gap = one.at(place, axis) - other.at(place, axis)
        if gap == 0:
            continue
        if before is not None and (before[1] < 0) != (gap < 0):
            share = before[1] / (before[1] - gap)
            where = before[0] + share * (place - before[0])
            found: Crossing = {"cells": [one.label, other.label]}
            if axis == "seconds":
                found["seconds"] = round(where, 3)
            else:
                found["characters"] = round(where)
                found["step"] = round(_interpolated(own, one.steps, where))
                found["seconds"] = [
                    round(_interpolated(each.characters, each.seconds, where), 3)
                    for each in (one, other)
                ]
            crossings.append({**found, "ahead": (one if gap < 0 else other).label})
        before = place, gap
    return crossings


def _by_pair(crossings: Sequence[Crossing]) -> list[list[Crossing]]:
    return [list(found) for _, found in groupby(crossings, lambda one: one["cells"])]


def _described(
    curves: Sequence[Curve], crossings: Sequence[list[Crossing]]
) -> list[list[Crossing]]:
    """Return the pairs to describe: all of a few cells, else those with the best one."""
    if len(curves) <= FEW:
        return [*crossings]
    best = min(curves, key=lambda one: one.bits[-1]).label
    return [found for found in crossings if best in found[0]["cells"]]


def _sentence(found: Sequence[Crossing], opening: str) -> str:
    """Describe the crossings of a pair by their number and the last."""
    one, other = found[0]["cells"]
    last, often = found[-1], f" {len(found)} times, last" if len(found) > 1 else ""
    if "step" in last:
        each = zip(last["cells"], last["seconds"], strict=True)
        seconds = " and ".join(f"{value:.3g} s of {label}" for label, value in each)
        place = f"at step {last['step']:,} ({last['characters']:,} characters, {seconds})"
    else:
        place = f"after {last['seconds']:.3g} s of training"
    ahead = f"{last['ahead']} is ahead from there on"
    return f"{opening}{one} and {other} cross{often} {place}: {ahead}."


def _interpolated(x: Sequence[float], y: Sequence[float], at: float) -> float:
    for (x0, y0), (x1, y1) in zip(
        zip(x, y, strict=True), zip(x[1:], y[1:], strict=True), strict=False
    ):
        if at <= x1:  # seconds of two evaluations may be equal, rounded to milliseconds
            return y0 + (y1 - y0) * max(0.0, at - x0) / (x1 - x0) if x1 > x0 else y1
    return y[-1]
