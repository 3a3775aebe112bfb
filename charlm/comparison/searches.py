"""The search of a comparison, if any, and the result of a random one as in compare.json."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from charlm.comparison import random_search, tune
from charlm.comparison.cells import Entry
from charlm.comparison.expected_best import best_difference, expected_best
from charlm.comparison.plan import Plan
from charlm.comparison.statistics import Interval
from charlm.comparison.table import bounds
from charlm.comparison.trials import Search, Trial, best_values, trials_of

Expected = Mapping[str, Sequence[float]]
"""The expected best bits of 1, 2, ... trials of each cell."""


def chosen_search(plan: Plan) -> Search | None:
    """Return the search that a plan begins with; None if it has none."""
    if plan.search:
        return random_search
    return tune if plan.tune else None


def search_result(plan: Plan, tried: Sequence[Trial], uniform: float) -> dict[str, Any] | None:
    """Return the trials of a random search and the expected best of n; None without one.

    plan: before its cells got their best values. uniform: bits of a uniform guess, which a trial
    that has diverged, or predicts worse, counts as.
    """
    if not plan.search:
        return None
    own = {entry.label: trials_of(entry, tried) for entry in plan.entries}
    bits = {label: [min(one.rank, uniform) for one in group] for label, group in own.items()}
    expected = {
        label: [one.mean for one in expected_best(values)] for label, values in bits.items()
    }
    first, *others = _ranked(expected)
    differences = [_difference(first, other, bits) for other in others]
    return {
        "trials": plan.search,
        "uniform": uniform,
        "rows": [_row(plan, entry, own[entry.label], bits[entry.label]) for entry in plan.entries],
        "differences": differences,
        "orders": orders(expected),
        "sentences": [*search_sentences(expected), *(one["sentence"] for one in differences)],
    }


def _row(plan: Plan, entry: Entry, own: Sequence[Trial], bits: Sequence[float]) -> dict[str, Any]:
    """Return a cell's ranges, best values, trials and expected best of n."""
    rate, dropout = best_values(entry, own)
    return {
        "cell": entry.label,
        "ranges": random_search.ranges(plan, entry),
        "best": {"learning_rate": rate, "dropout": dropout},
        "diverged": sum(one.bits_per_character is None for one in own),
        "trials": [
            {key: value for key, value in asdict(one).items() if key != "label"} for one in own
        ],
        "expected": _by_budget(expected_best(bits)),
    }


def _by_budget(intervals: Sequence[Interval]) -> list[dict[str, Any]]:
    return [{"trials": n, **bounds(one)} for n, one in enumerate(intervals, start=1)]


def _ranked(expected: Expected, trials: int = 0) -> list[str]:
    """List the cells by the expected best of a number of trials, the lowest first; 0: of all."""
    return sorted(expected, key=lambda label: expected[label][trials - 1])


def orders(expected: Expected) -> list[dict[str, Any]]:
    """List the orders of the cells by expected best, the lowest first, each with its budgets."""
    budgets = range(1, 1 + len(next(iter(expected.values()))))
    return [
        {"from": numbers[0], "to": numbers[-1], "cells": order}
        for order, group in groupby(budgets, lambda n: _ranked(expected, n))
        for numbers in [list(group)]
    ]


def search_sentences(expected: Expected) -> list[str]:
    """Describe the best of each cell, and the order of the cells by budget."""
    listed = _ranked(expected)
    count = len(expected[listed[0]])
    sentences = [
        f"Best of {count} random trials of each cell, one seed: "
        + ", ".join(f"{label} {expected[label][-1]:.3f}" for label in listed)
        + " bits per character."
    ]
    if len(listed) == 1:
        return sentences
    by_budget = orders(expected)
    if len(by_budget) == 1:
        sentences.append(f"Their expected order is the same for 1 to {count} trials.")
    else:
        listing = "; ".join(f"{_budget(one)}, {', '.join(one['cells'])}" for one in by_budget)
        sentences.append(f"Their expected order changes with the number of trials: {listing}.")
    return sentences


def _budget(order: Mapping[str, Any]) -> str:
    if order["from"] == order["to"]:
        return f"with {order['from']}"
    return f"with {order['from']} to {order['to']}"


def _difference(first: str, other: str, bits: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Compare the best cell with another, point by point."""
    ahead, found = expected_best(bits[first]), best_difference(bits[first], bits[other])
    last, count = found[-1], len(found)
    target = min(bits[other])
    needed = next(n for n, one in enumerate(ahead, start=1) if one.mean <= target)
    interval = "too few trials for an interval"
    if not last.is_open:
        interval = (
            f"nominally 95 % over the draw of the points: {last.low:+.3f} to {last.high:+.3f}"
        )
    return {
        "cells": [first, other],
        "expected": _by_budget(found),
        "trials_needed": needed,
        "shown": last.is_below_zero,
        "sentence": f"{first} needs {needed} trial{'s' if needed > 1 else ''} to be expected at or "
        f"below {other}'s best of {count}; {first} minus {other}, best of {count}: "
        f"{last.mean:+.3f} bits ({interval}).",
    }
