"""The adaptive search for learning rate and dropout, the same for every cell: `--tune`.

Each cell first tries its own learning rate times each of `FACTORS`; then, at the best rate, its
own dropout and `DROPOUTS`. While the best value is the lowest or highest tried, the next value
beyond it is tried, too. (With `--match time` no dropouts are tried, because a step with dropout
takes longer.)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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

FACTORS = (0.25, 0.5, 1.0, 2.0)
DROPOUTS = (0.0, 0.1, 0.25)
DROPOUT_STEP = 0.15
MOST_BEYOND = 3
"""Most values tried beyond either end of a list."""


def terms(plan: Plan) -> dict[str, Any]:
    """Return the ranges and the budget of the search, as in plan.json."""
    return {
        "learning_rate_factors": list(FACTORS),
        "dropouts": list(DROPOUTS) if plan.match != "time" else [],
        "most_beyond_either_end": MOST_BEYOND,
        "seed": seed_of(plan),
    }


def next_runs(
    plan: Plan, tried: Sequence[Trial], folder: Path, seconds_a_step: Mapping[str, float]
) -> list[PlannedRun]:
    """List the runs that every cell's search needs next; none once all searches are finished.

    seconds_a_step: by label.
    """
    result = []
    for entry in plan.entries:
        dropouts = DROPOUTS if plan.match != "time" else ()
        for rate, dropout in _next_values(entry, trials_of(entry, tried), dropouts):
            path = folder / f"{entry.folder}-rate{rate:g}-dropout{dropout:g}"
            seconds = seconds_a_step[entry.label]
            result.append(trial_run(plan, entry, (rate, dropout), path, seconds))
    return result


def at_the_edge(plan: Plan, tried: Sequence[Trial]) -> list[str]:
    """List the cells whose best rate or dropout is still the lowest or highest tried.

    A dropout of 0 is not an edge: there is nothing beyond it.
    """
    notes = []
    for entry in plan.entries:
        own = trials_of(entry, tried)
        rate, dropout = best_values(entry, own)
        rates = [one.learning_rate for one in own if one.dropout == entry.config.model.dropout]
        dropouts = [one.dropout for one in own if one.learning_rate == rate]
        for name, value, values, lowest in (
            ("learning rate", rate, rates, 0.0),
            ("dropout", dropout, dropouts, min(DROPOUTS)),
        ):
            ends = {min(values), max(values)} - {lowest} if values else set()
            if value in ends:
                side = "highest" if value == max(values) else "lowest"
                notes.append(f"{entry.label}: the best {name}, {value:g}, is the {side} tried")
    return notes


def _next_values(
    entry: Entry, tried: Sequence[Trial], first_dropouts: Sequence[float]
) -> list[Values]:
    """List the values that a cell tries next: rates and, once these are settled, dropouts."""
    own = entry.config.train.learning_rate, entry.config.model.dropout
    done = {(one.learning_rate, one.dropout) for one in tried}
    at_own_dropout = [one for one in tried if one.dropout == own[1]]
    rates = [min(own[0] * factor, HIGHEST_RATE) for factor in FACTORS]
    if at_own_dropout:
        rates += _beyond_rates(rates, at_own_dropout)
    if missing := [(rate, own[1]) for rate in dict.fromkeys(rates) if (rate, own[1]) not in done]:
        return missing
    rate = best_values(entry, at_own_dropout)[0]
    at_best_rate = [one for one in tried if one.learning_rate == rate]
    dropouts = [*first_dropouts]
    if len(at_best_rate) > 1 and dropouts:
        dropouts += _beyond_dropouts(at_best_rate)
    return [(rate, dropout) for dropout in dropouts if (rate, dropout) not in done]


def _beyond_rates(first: Sequence[float], tried: Sequence[Trial]) -> list[float]:
    """Return the rates beyond the first ones that were tried, and the next one if necessary."""
    best = min(tried, key=lambda one: one.rank).learning_rate
    low, high = min(one.learning_rate for one in tried), max(one.learning_rate for one in tried)
    ratio = FACTORS[-1] / FACTORS[-2]
    result = [one.learning_rate for one in tried if one.learning_rate not in first]
    below, above = sum(r < min(first) for r in result), sum(r > max(first) for r in result)
    if best == low and below < MOST_BEYOND:
        result.append(low / ratio)
    elif best == high and above < MOST_BEYOND and high < HIGHEST_RATE:
        result.append(min(high * ratio, HIGHEST_RATE))
    return result


def _beyond_dropouts(tried: Sequence[Trial]) -> list[float]:
    """Return the next dropout if the best one is the highest tried, else nothing."""
    highest = max(one.dropout for one in tried)
    beyond = round(highest + DROPOUT_STEP, 4)
    most = max(DROPOUTS) + MOST_BEYOND * DROPOUT_STEP
    wanted = min(tried, key=lambda one: one.rank).dropout == highest and beyond <= min(
        most, HIGHEST_DROPOUT
    )
    return [beyond] if wanted else []
