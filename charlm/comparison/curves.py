"""Learning curves of a comparison: their crossings, and how far each still falls at its end."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from charlm.comparison.analysis import RunAnalysis

LAST_SHARE = 0.2
"""Share of a run that counts as its end."""


@dataclass(frozen=True)
class Curve:
    """A cell's validation curve, the mean over seeds, at every evaluation that all of them reached.

    Units: characters trained; seconds of training; bits per character.
    """

    label: str
    characters: list[float]
    seconds: list[float]
    bits: list[float]

    def at(self, characters: float) -> float:
        """Return the bits after `characters`, interpolated linearly and clamped to the ends."""
        return _interpolated(self.characters, self.bits, characters)

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


def mean_curve(label: str, group: Sequence[RunAnalysis]) -> Curve:
    """Average the curves of a cell's runs over the seeds."""
    columns = list(zip(*(one.curve for one in group), strict=False))
    characters, seconds, bits = (
        [fmean(row[key] for row in column) for column in columns]
        for key in ("characters", "seconds", "bits_per_character")
    )
    return Curve(label, characters, seconds, bits)


def describe(curves: Sequence[Curve]) -> dict[str, Any]:
    """Return the last falls, the crossings, and sentences that describe both."""
    falls = {one.label: one.last_fall() for one in curves}
    pairs = [(one, other) for at, one in enumerate(curves) for other in curves[at + 1 :]]
    crossings = [
        {"cells": [one.label, other.label], "characters": round(where), "ahead": ahead}
        for one, other in pairs
        for where, ahead in _crossings(one, other)
    ]
    sentences = []
    for verb, sign in (("still fall", 1), ("rise again", -1)):
        known = [
            f"{label} by {abs(fall):.3f}"
            for label, fall in falls.items()
            if fall is not None and sign * fall > 0
        ]
        if known:
            sentences.append(
                f"Over the last {100 * LAST_SHARE:.0f} % of the characters, while the learning "
                f"rate comes down, these curves {verb}: {', '.join(known)} bits."
            )
    for one, other in pairs:
        if crossed := _crossings(one, other):
            places = ", ".join(f"{round(where):,} ({ahead} ahead)" for where, ahead in crossed)
            sentences.append(f"{one.label} and {other.label} cross after {places} characters.")
    if len(curves) > 1 and not crossings:
        sentences.append("No two curves cross.")
    return {
        "last_share": LAST_SHARE,
        "falls": [{"cell": label, "bits_per_character": fall} for label, fall in falls.items()],
        "crossings": crossings,
        "sentences": sentences,
    }


def _crossings(one: Curve, other: Curve) -> list[tuple[float, str]]:
    """Return the characters at which two curves cross, each with the label ahead from there on."""
    end = min(one.characters[-1], other.characters[-1])
    start = max(one.characters[0], other.characters[0])
    places = sorted({c for c in (*one.characters, *other.characters) if start <= c <= end})
    crossings = []
    before: tuple[float, float] | None = None  # last characters with a gap that is not 0, the gap
    for place in places:
        gap = one.at(place) - other.at(place)
        if gap == 0:
            continue
        if before is not None and (before[1] < 0) != (gap < 0):
            share = before[1] / (before[1] - gap)
            where = before[0] + share * (place - before[0])
            crossings.append((where, one.label if gap < 0 else other.label))
        before = place, gap
    return crossings


def _interpolated(x: Sequence[float], y: Sequence[float], at: float) -> float:
    for (x0, y0), (x1, y1) in zip(
        zip(x, y, strict=True), zip(x[1:], y[1:], strict=True), strict=False
    ):
        if at <= x1:
            return y0 + (y1 - y0) * max(0.0, (at - x0) / (x1 - x0))
    return y[-1]
