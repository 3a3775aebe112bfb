"""Longer runs of the best cell, if the n-gram model beats all networks.

They measure the training that the cell needs to beat it, rather than extrapolate a curve.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from charlm.comparison.analysis import RunAnalysis
from charlm.comparison.plan import Plan, PlannedRun
from charlm.comparison.reuse import summary

TIMES = (2, 4)
"""Multiples of the steps to try, one run each, until one is enough."""


@dataclass(frozen=True)
class LongerRun:
    """A run of the best cell, `times` as long as those compared.

    bits_per_character: None if it diverged. beats: True if it beats the n-gram model.
    """

    cell: str
    times: int
    steps: int
    bits_per_character: float | None
    beats: bool


def best_cell(plan: Plan, analyses: Sequence[RunAnalysis]) -> tuple[str, float]:
    """Return the label and the mean bits of the cell with the best validation over the seeds."""
    means = {
        entry.label: fmean(
            one.summary["best"]["bits_per_character"]
            for one in analyses
            if one.planned.entry.label == entry.label
        )
        for entry in plan.entries
    }
    best = min(means, key=lambda label: means[label])
    return best, means[best]


def longer_run(
    plan: Plan, label: str, times: int, folder: Path, seconds_a_step: float
) -> PlannedRun:
    """Plan a cell's run of `times` the steps and seconds, with the same number of evaluations."""
    entry = next(entry for entry in plan.entries if entry.label == label)
    train = entry.config.train
    longer = entry.with_train(
        steps=times * train.steps,
        seconds=times * train.seconds,
        eval_every=times * train.eval_every,
        checkpoint_every=times * train.checkpoint_every,
    )
    path = folder / f"{entry.folder}-times{times}"
    note = f"{times} times as long"
    return PlannedRun(longer, longer.seeded(plan.seeds[0]), path, seconds_a_step, note)


def outcome(planned: PlannedRun, times: int, ngram_bits: float) -> LongerRun:
    """Read a run that has ended. Raises: CheckpointError if it is damaged."""
    label = planned.entry.label
    if not (planned.path / "summary.json").is_file():
        return LongerRun(label, times, planned.steps, None, False)
    result = summary(planned)
    bits = float(result["best"]["bits_per_character"])
    return LongerRun(label, times, result["steps"], bits, bits < ngram_bits)


def sentence(runs: Sequence[LongerRun]) -> str:
    """Describe the budget at which the network beats counting; "" if none had to be tried."""
    if not runs:
        return ""
    last = runs[-1]
    more = f"{last.times} times as many steps"
    if last.bits_per_character is None:
        return f"With {more} {last.cell} diverges (one seed)."
    reached = f"{last.bits_per_character:.3f} bits (one seed)"
    if last.beats:
        return f"With {more} {last.cell} beats it: {reached}."
    return f"{more} are not enough to beat it: {last.cell} reaches {reached}."
