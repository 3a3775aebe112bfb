"""The random search for learning rate and dropout, the same for every cell: `--search`.

Every trial is an independent draw: a learning rate log-uniform around the cell's own, and in half
of the trials a dropout. The same points, as shares of the ranges, are tried by every cell, which
pairs the cells. (With `--match time` every trial has the cell's own dropout, because a step with
dropout takes longer.)

`expected_best` needs independent draws: an adaptive search (`tune`, or a library's) may find better
values, but shows one result for one budget only. Random search adds no dependency, and finds as
good values as a grid in a fraction of the trials, since few of the values matter. Source: Bergstra
and Bengio, Journal of Machine Learning Research 2012.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from charlm.comparison.cells import Entry
from charlm.comparison.plan import Plan, PlannedRun
from charlm.comparison.trials import (
    HIGHEST_DROPOUT,
    HIGHEST_RATE,
    Trial,
    Values,
    best_values,
    seed_of,
    trial_run,
    trials_of,
)

FACTOR = 8.0
"""Ratio of either end of the rates to the cell's own. With `configs/compare.toml` on
tinyshakespeare, one seed, the best of seven rates was 0.5 (rnn), 2 (mingru) and 2 or 4 times (lstm)
the preset's."""
WITHOUT_DROPOUT = 0.5
"""Share of trials without dropout: short trainings want none, and a range alone never draws it."""
DROPOUT = 0.25
"""The highest dropout, or twice the cell's own, if that is more."""
EDGE = 0.1
"""Share of a range at either end in which a best value is noted."""

Range = tuple[float, float]


def terms(plan: Plan) -> dict[str, Any]:
    """Return the ranges, the budget and the points of the search, as in plan.json.

    The share of trials without dropout is left out if every trial has the cell's own.
    """
    without_dropout = {} if plan.match == "time" else {"without_dropout": WITHOUT_DROPOUT}
    return {
        "trials": plan.search,
        "seed": seed_of(plan),
        "ranges": {entry.label: ranges(plan, entry) for entry in plan.entries},
        **without_dropout,
        "points": _points(plan).tolist(),
    }


def ranges(plan: Plan, entry: Entry) -> dict[str, list[float]]:
    """Return the lowest and highest learning rate and dropout of a cell."""
    dropouts = _dropouts(entry) if plan.match != "time" else (entry.config.model.dropout,) * 2
    return {"learning_rate": list(_rates(entry)), "dropout": list(dropouts)}


def next_runs(
    plan: Plan, tried: Sequence[Trial], folder: Path, seconds_a_step: Mapping[str, float]
) -> list[PlannedRun]:
    """List the runs of all trials, point by point; none once they are finished.

    seconds_a_step: by label.
    """
    if tried:
        return []
    return [
        trial_run(
            plan,
            entry,
            _values(plan, entry, point),
            folder / f"{entry.folder}-trial{number}",
            seconds_a_step[entry.label],
        )
        for number, point in enumerate(_points(plan), start=1)
        for entry in plan.entries
    ]


def at_the_edge(plan: Plan, tried: Sequence[Trial]) -> list[str]:
    """List the cells whose best learning rate or dropout lies in the last tenth of its range.

    A low dropout is not at an end: there is nothing beyond 0.
    """
    notes = []
    for entry in plan.entries:
        rate, dropout = best_values(entry, trials_of(entry, tried))
        low, high = _rates(entry)
        place = math.log(rate / low) / math.log(high / low)
        if not EDGE <= place <= 1 - EDGE:
            end, value = ("lower", low) if place < EDGE else ("upper", high)
            notes.append(
                f"{entry.label}: the best learning rate, {rate:g}, is near the {end} end of its "
                f"range, {value:g}"
            )
        highest = _dropouts(entry)[1]
        if plan.match != "time" and dropout > (1 - EDGE) * highest:
            notes.append(
                f"{entry.label}: the best dropout, {dropout:g}, is near the upper end of its "
                f"range, {highest:g}"
            )
    return notes


def _points(plan: Plan) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Draw the points, as shares of the ranges; those of fewer trials are the first of more.

    Shapes: [trials, 2].
    """
    return np.random.default_rng(seed_of(plan)).random((plan.search, 2))


def _values(plan: Plan, entry: Entry, point: Sequence[float]) -> Values:
    """Return the values of a cell at a point, with four digits."""
    (low, high), (for_rate, for_dropout) = _rates(entry), point
    rate = float(f"{low * (high / low) ** for_rate:.4g}")
    if plan.match == "time":
        return rate, entry.config.model.dropout
    share = max(0.0, for_dropout - WITHOUT_DROPOUT) / (1 - WITHOUT_DROPOUT)
    return rate, float(f"{_dropouts(entry)[1] * share:.4g}")


def _rates(entry: Entry) -> Range:
    own = entry.config.train.learning_rate
    return own / FACTOR, min(own * FACTOR, HIGHEST_RATE)


def _dropouts(entry: Entry) -> Range:
    return 0.0, min(max(DROPOUT, 2 * entry.config.model.dropout), HIGHEST_DROPOUT)
