"""The trials of a search: runs that choose each cell's values before it is compared.

A trial is a run like those compared, with a seed that the comparison does not use; the best
validation wins.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from charlm.comparison.cells import Entry
from charlm.comparison.plan import Plan, PlannedRun
from charlm.comparison.reuse import summary

Values = tuple[float, float]
"""A learning rate and a dropout."""
HIGHEST_RATE, HIGHEST_DROPOUT = 10.0, 0.95
"""Upper limits of a configuration."""


@dataclass(frozen=True)
class Trial:
    """A finished trial of a cell. bits_per_character: None if it diverged."""

    label: str
    learning_rate: float
    dropout: float
    bits_per_character: float | None

    @property
    def values(self) -> Values:
        return self.learning_rate, self.dropout

    @property
    def rank(self) -> float:
        """Bits per character; infinite if it diverged."""
        return math.inf if self.bits_per_character is None else self.bits_per_character


class Search(Protocol):
    """A search, the same for every cell."""

    def terms(self, plan: Plan) -> dict[str, Any]:
        """Return the ranges and the budget, as in plan.json."""

    def next_runs(
        self,
        plan: Plan,
        tried: Sequence[Trial],
        folder: Path,
        seconds_a_step: Mapping[str, float],
    ) -> list[PlannedRun]:
        """List the runs that every cell's search needs next; none once all are finished.

        seconds_a_step: by label.
        """

    def at_the_edge(self, plan: Plan, tried: Sequence[Trial]) -> list[str]:
        """List the cells whose best value is at an end of its range."""


def seed_of(plan: Plan) -> int:
    """Return the seed of all trials, the same for any number of the comparison's seeds."""
    return (plan.seeds[0] - 1) % 2**32


def with_values(entry: Entry, values: Values) -> Entry:
    """Return a cell with other values."""
    rate, dropout = values
    return entry.with_train(learning_rate=rate).with_model(dropout=dropout)


def trial_run(
    plan: Plan, entry: Entry, values: Values, path: Path, seconds_a_step: float
) -> PlannedRun:
    """Plan a trial of a cell with these values."""
    trial, (rate, dropout) = with_values(entry, values), values
    note = f"rate {rate:g}, dropout {dropout:g}"
    return PlannedRun(trial, trial.seeded(seed_of(plan)), path, seconds_a_step, note)


def results(searched: Sequence[PlannedRun]) -> list[Trial]:
    """Read the results of finished trials. Raises: CheckpointError for a damaged run."""
    trials = []
    for planned in searched:
        diverged = not (planned.path / "summary.json").is_file()
        bits = None if diverged else float(summary(planned)["best"]["bits_per_character"])
        rate, dropout = planned.config.train.learning_rate, planned.config.model.dropout
        trials.append(Trial(planned.entry.label, rate, dropout, bits))
    return trials


def tuned(plan: Plan, tried: Sequence[Trial]) -> Plan:
    """Return the plan with every cell at its best values; at its own if all trials diverged."""
    entries = [
        with_values(entry, best_values(entry, trials_of(entry, tried))) for entry in plan.entries
    ]
    return replace(plan, entries=tuple(entries))


def best_values(entry: Entry, tried: Sequence[Trial]) -> Values:
    """Return the values with the best validation; the entry's own if all trials diverged."""
    best = min(tried, key=lambda one: one.rank, default=None)
    if best is None or best.bits_per_character is None:
        return entry.config.train.learning_rate, entry.config.model.dropout
    return best.values


def trials_of(entry: Entry, tried: Sequence[Trial]) -> list[Trial]:
    """Select a cell's trials."""
    return [one for one in tried if one.label == entry.label]
