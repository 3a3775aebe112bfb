"""The budget question: where counting alone predicts better than every network, how much longer the
best one must train to beat it. Measured, not extrapolated."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from charlm.compare.analysis import RunAnalysis
from charlm.compare.plan import Plan, PlannedRun
from charlm.compare.reuse import summary

TIMES = (2, 4)
"""So many times the steps are tried, one run each, until one is enough."""


@dataclass(frozen=True)
class LongerRun:
    """A run of the best cell, `times` as long as those compared. beats: the n-gram model."""

    cell: str
    times: int
    steps: int
    bits_per_character: float
    beats: bool


def best_cell(analyses: Sequence[RunAnalysis]) -> tuple[str, float]:
    """Return the label of the run with the best validation, and its bits."""
    best = min(analyses, key=lambda one: float(one.summary["best"]["bits_per_character"]))
    return best.planned.entry.label, float(best.summary["best"]["bits_per_character"])


def longer_run(
    plan: Plan, label: str, times: int, folder: Path, seconds_a_step: float
) -> PlannedRun:
    """Plan a cell's run of `times` the steps and seconds; evaluated as often over its length."""
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
    """Read a finished run. Raises: CheckpointError: damaged."""
    told = summary(planned)
    bits = float(told["best"]["bits_per_character"])
    return LongerRun(planned.entry.label, times, told["steps"], bits, bits < ngram_bits)


def sentence(found: Sequence[LongerRun]) -> str:
    """Say at what budget the network beats counting; "" where nothing had to be tried."""
    if not found:
        return ""
    last = found[-1]
    more = f"{last.times} times as many steps"
    reached = f"{last.bits_per_character:.3f} bits"
    if last.beats:
        return f"With {more} {last.cell} beats it: {reached}."
    return f"{more} are not enough to beat it: {last.cell} reaches {reached}."
