"""The rows of a comparison and the differences between them."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

import numpy as np

from charlm.comparison.analysis import RunAnalysis
from charlm.comparison.baselines import Baselines
from charlm.comparison.curves import mean_curve
from charlm.comparison.extended_runs import LongerRun, sentence
from charlm.comparison.plan import Plan, operations
from charlm.comparison.statistics import Floats, Interval, deviation, difference, ratio, two_way
from charlm.comparison.step_cost import StepCost

Row = dict[str, Any]


def rows(plan: Plan, analyses: Sequence[RunAnalysis]) -> list[Row]:
    """Make one row per cell, in the order in which they were named.

    Values over seeds are in the order of the plan's seeds, so that rows compare pair by pair.
    """
    groups = {e.label: runs_of(e.label, plan, analyses) for e in plan.entries}
    target = max(mean_curve(label, group).bits[-1] for label, group in groups.items())
    size = len(plan.corpus.vocabulary)
    return [
        {
            **_row(label, group, target),
            "operations": operations(group[0].planned.config.model, size),
        }
        for label, group in groups.items()
    ]


def differences(table: Sequence[Row]) -> list[dict[str, Any]]:
    """Compare every pair of cells on validation: an interval of 95 % and a sentence."""
    result = []
    for at, one in enumerate(table):
        for other in table[at + 1 :]:
            a, b = (row["bits_per_character"]["values"] for row in (one, other))
            interval = difference(a, b)
            result.append(
                {
                    "cells": [one["cell"], other["cell"]],
                    **bounds(interval),
                    "shown": interval.is_above_zero or interval.is_below_zero,
                    "sentence": _sentence(one["cell"], other["cell"], interval, len(a)),
                }
            )
    return result


def on_test(plan: Plan, table: Sequence[Row]) -> dict[str, Any]:
    """Return the size of the test split, and a sentence on the order of the cells there."""
    characters = plan.corpus.splits["test"].characters
    if not characters:
        sentence = (
            "There is no test split: validation has both selected the checkpoints and judged them "
            "(--set data.split=[0.9,0.05,0.05] holds one out)."
        )
        return {"characters": 0, "sentence": sentence}
    by_test = sorted(table, key=lambda row: float(row["test"]["mean"]))
    listed = ", ".join(f"{row['cell']} {row['test']['mean']:.3f}" for row in by_test)
    same = by_test == sorted(table, key=_mean)
    order = "the order is that of validation" if same else "the order is not that of validation"
    sentence = f"Test split, scored once after all choices: {listed} bits per character"
    sentence += f"; {order}." if len(table) > 1 else "."
    return {"characters": characters, "sentence": sentence}


def over_blocks(
    between_cells: Sequence[dict[str, Any]], plan: Plan, analyses: Sequence[RunAnalysis]
) -> list[dict[str, Any]]:
    """Return the differences, each with its interval over seeds and blocks of the text."""
    blocks = {
        entry.label: np.array([one.blocks for one in runs_of(entry.label, plan, analyses)])
        for entry in plan.entries
    }
    return [
        {**pair, "two_way": _two_way(*pair["cells"], *(blocks[cell] for cell in pair["cells"]))}
        for pair in between_cells
    ]


def _two_way(one: str, other: str, ones: Floats, others: Floats) -> dict[str, Any]:
    found = two_way(ones, others)
    interval, is_open = found.interval, found.interval.is_open
    said = f"{one} minus {other}, over seeds and blocks of the text: {interval.mean:+.4f} bits"
    if is_open:
        said += "; too few seeds for an interval (use --seeds 5)"
    else:
        said += (
            f" (95 %: {interval.low:+.4f} to {interval.high:+.4f}); the smallest difference that "
            f"this design can show is {found.smallest_difference:.4f}"
        )
    return {
        **bounds(interval),
        "shown": interval.is_above_zero or interval.is_below_zero,
        "standard_error": None if is_open else found.standard_error,
        "smallest_difference": None if is_open else found.smallest_difference,
        "sentence": said,
    }


def verdict(
    table: Sequence[Row],
    between_cells: Sequence[dict[str, Any]],
    known: Baselines,
    longer: Sequence[LongerRun],
    costs: Mapping[str, StepCost],
) -> list[str]:
    """Summarise the result in a few sentences: the best cell, the n-gram model, the fastest cell.

    longer: as for `make_result`. costs: of every cell's steps at the same width, by label.
    """
    ranked = sorted(table, key=_mean)
    best = ranked[0]
    pairs = [
        next(d for d in between_cells if {best["cell"], r["cell"]} == {*d["cells"]})
        for r in ranked[1:]
    ]
    shown = all(pair["shown"] for pair in pairs)
    sentences = [
        f"{best['cell']} {'predicts best' if shown else 'has the lowest mean'}: "
        f"{_mean(best):.3f} bits per character."
    ]
    sentences += [f"{pair['sentence']}." for pair in pairs]
    ngram = known.bits["validation"]["ngram"]
    ahead = [row["cell"] for row in ranked if _margin(row, ngram).is_below_zero]
    winners = "no network is shown to beat it here"
    if ahead:
        winners = f"{and_(ahead)} predict{'s' if len(ahead) == 1 else ''} better"
    sentences.append(
        f"Counting alone, {_ngram_name(known.ngram_order)} model with {known.ngram_counts:,} "
        f"counts, reaches {ngram:.3f}: {winners}."
    )
    if said := sentence(longer):
        sentences.append(said)
    return [*sentences, *fastest(costs)]


def fastest(costs: Mapping[str, StepCost]) -> list[str]:
    """Compare the two fastest cells, at equal widths, with the spread over the rounds."""
    sizes = {(one.config.model.hidden_size, one.config.model.num_layers) for one in costs.values()}
    if len(costs) < 2 or len(sizes) > 1:
        return []
    ranked = sorted(costs, key=lambda label: costs[label].seconds_a_step)
    first, second = ranked[:2]
    times = ratio(costs[second].step_seconds, costs[first].step_seconds)
    width = costs[first].config.model.hidden_size
    shown = f"{times.mean:.2f} times as fast as {second}"
    if not times.is_open:
        shown += f" (95 %: {times.low:.2f} to {times.high:.2f})"
    return [f"At the same width, {width}, {first} trains fastest: {shown}."]


def _mean(row: Row) -> float:
    return float(row["bits_per_character"]["mean"])


def _margin(row: Row, constant: float) -> Interval:
    """Compare a cell's values with a constant."""
    values = row["bits_per_character"]["values"]
    return difference(values, [constant] * len(values))


def _ngram_name(order: int) -> str:
    return f"{'an' if order == 8 else 'a'} {order}-gram"


def and_(names: Sequence[str]) -> str:
    """Join names as in "rnn, lstm and gru"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def bounds(interval: Interval) -> dict[str, float | None]:
    """Return an interval as JSON; None for bounds left open by too few seeds."""
    if interval.is_open:
        return {"mean": interval.mean, "low": None, "high": None}
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}


def _sentence(one: str, other: str, interval: Interval, seeds: int) -> str:
    if interval.is_open:
        count = "one seed" if seeds == 1 else f"{seeds} seeds"
        return (
            f"{one} minus {other}: {interval.mean:+.3f} bits, but {count} cannot show a difference "
            "(use --seeds 5)"
        )
    if interval.is_below_zero or interval.is_above_zero:
        better, worse = (one, other) if interval.is_below_zero else (other, one)
        low, high = sorted((abs(interval.low), abs(interval.high)))
        return (
            f"{better} predicts better than {worse}, by {abs(interval.mean):.3f} bits per "
            f"character (95 %: {low:.3f} to {high:.3f})"
        )
    return (
        f"{one} and {other}: no difference that {seeds} seeds can show "
        f"({interval.mean:+.3f} bits; 95 %: {interval.low:+.3f} to {interval.high:+.3f})"
    )


def runs_of(label: str, plan: Plan, analyses: Sequence[RunAnalysis]) -> list[RunAnalysis]:
    """Select a cell's runs, in the order of the seeds."""
    own = [one for one in analyses if one.planned.entry.label == label]
    return sorted(own, key=lambda one: plan.seeds.index(one.planned.config.train.seed))


def _row(label: str, group: Sequence[RunAnalysis], target: float) -> Row:
    first = group[0]
    peaks = [one.summary["peak_memory_bytes"] for one in group]
    tests = [one.test_bits for one in group if one.test_bits is not None]
    return {
        "cell": label,
        "hidden_size": first.planned.config.model.hidden_size,
        "num_layers": first.planned.config.model.num_layers,
        "parameters": first.summary["parameters"],
        "recurrent_parameters": first.summary["recurrent_parameters"],
        "learning_rate": first.planned.config.train.learning_rate,
        "dropout": first.planned.config.model.dropout,
        "steps": first.planned.steps,
        "bits_per_character": spread(_validation(group)),
        "test_bits_per_character": spread(tests) if tests else None,
        "test": spread(tests) if tests else None,
        "characters_per_second": _median(one.summary["characters_per_second"] for one in group),
        "seconds": fmean(one.summary["seconds"] for one in group),
        "seconds_to_weakest": {
            "bits_per_character": target,
            "mean": mean_curve(label, group).seconds_to(target),
        },
        "peak_memory_bytes": None if None in peaks else max(peaks),
        "sample_characters_per_second": _median(one.sample_speed for one in group),
        "runs": [f"{one.planned.path.parent.name}/{one.planned.path.name}" for one in group],
    }


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return the mean and standard deviation of values over seeds, and the values."""
    return {
        "mean": fmean(values),
        "std": deviation(values) if len(values) > 1 else None,
        "values": list(values),
    }


def _validation(group: Sequence[RunAnalysis]) -> list[float]:
    return [one.summary["best"]["bits_per_character"] for one in group]


def _median(values: Iterable[float]) -> float:
    return round(median(values), 1)
