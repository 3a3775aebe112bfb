"""The search for a learning rate that every cell gets alike: `--tune`.

Each cell tries its own rate times `FACTORS`, for a quarter of the steps, with a seed that the
comparison itself does not use. The rate with the best validation is taken.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from charlm.compare.plan import Entry, Plan, PlannedRun
from charlm.compare.reuse import summary

FACTORS = (0.25, 0.5, 1.0, 2.0)
SHARE = 4
"""A tuning run takes steps / 4."""


@dataclass(frozen=True)
class TuningRun:
    """One rate that a cell has tried. bits_per_character: None where it diverged."""

    label: str
    learning_rate: float
    bits_per_character: float | None


def tuning_runs(plan: Plan, folder: Path, seconds_a_step: Mapping[str, float]) -> list[PlannedRun]:
    """List the runs of the search."""
    seed = (plan.seeds[0] - 1) % 2**32  # alike however many seeds are compared
    result = []
    for entry in plan.entries:
        train = entry.config.train
        steps = max(1, train.steps // SHARE)
        for factor in FACTORS:
            rate = train.learning_rate * factor
            tried = entry.with_train(
                learning_rate=min(rate, 10.0),
                steps=steps,
                warmup_steps=min(train.warmup_steps, steps // 4),
                seconds=train.seconds / SHARE,
                eval_every=steps,
                checkpoint_every=steps,
            )
            path = folder / f"{entry.folder}-rate{rate:g}"
            seconds = seconds_a_step[entry.label]
            result.append(PlannedRun(tried, tried.seeded(seed), path, seconds, f"rate {rate:g}"))
    return result


def results(searched: Sequence[PlannedRun]) -> list[TuningRun]:
    """Read what the finished search found. Raises: CheckpointError for a damaged run."""
    found = []
    for planned in searched:
        diverged = not (planned.path / "summary.json").is_file()
        bits = None if diverged else float(summary(planned)["best"]["bits_per_character"])
        found.append(TuningRun(planned.entry.label, planned.config.train.learning_rate, bits))
    return found


def best(entry: Entry, tried: Sequence[TuningRun]) -> float:
    """Return the rate with the best validation; the entry's own where all diverged."""
    own = [one for one in tried if one.label == entry.label and one.bits_per_character is not None]
    if not own:
        return entry.config.train.learning_rate
    return min(own, key=_bits).learning_rate


def tuned(plan: Plan, tried: Sequence[TuningRun]) -> Plan:
    """Return the plan with every cell at its best rate."""
    entries = tuple(e.with_train(learning_rate=best(e, tried)) for e in plan.entries)
    return replace(plan, entries=entries)


def at_the_edge(plan: Plan, tried: Sequence[TuningRun]) -> list[str]:
    """List the labels of the cells whose best rate is the lowest or highest that was tried."""
    result = []
    for entry in plan.entries:
        rates = [one.learning_rate for one in tried if one.label == entry.label]
        if rates and best(entry, tried) in (min(rates), max(rates)):
            result.append(entry.label)
    return result


def _bits(tried: TuningRun) -> float:
    return math.inf if tried.bits_per_character is None else tried.bits_per_character
