"""The result of a comparison, as in compare.json and in the report."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from charlm.backends.device import versions
from charlm.common.version import __version__
from charlm.comparison.analysis import RunAnalysis
from charlm.comparison.answering import task_result
from charlm.comparison.baselines import MOST_SYMBOLS, Baselines
from charlm.comparison.claims import Findings, judge
from charlm.comparison.curves import describe, mean_curve
from charlm.comparison.extended_runs import LongerRun
from charlm.comparison.plan import Plan
from charlm.comparison.statistics import ENOUGH
from charlm.comparison.step_cost import StepCost
from charlm.comparison.table import (
    Row,
    differences,
    fastest,
    on_test,
    over_blocks,
    rows,
    runs_of,
    verdict,
)
from charlm.config.schema import to_toml

Result = dict[str, Any]


def make_result(
    plan: Plan,
    analyses: Sequence[RunAnalysis],
    costs: Mapping[str, StepCost],
    known: Baselines,
    longer: Sequence[LongerRun],
    prompt: str,
) -> Result:
    """Collect the result.

    costs: of the steps, by configuration in TOML. longer: longer runs of the best cell, if no
    compared run has beaten the n-gram model.
    """
    table = rows(plan, analyses)
    at_same_width = {e.label: costs[to_toml(e.config)] for e in plan.same_width}
    between_cells = over_blocks(differences(table), plan, analyses)
    curves = [
        mean_curve(row["cell"], runs_of(row["cell"], plan, analyses), row["operations"])
        for row in table
    ]
    first, task = plan.seeds[0], task_result(plan, analyses)
    sentences = verdict(table, between_cells, known, longer, at_same_width)
    if task is not None:
        sentences = [*task["sentences"], *fastest(at_same_width)]
    return {
        "match": plan.match,
        "budget": plan.budget or None,
        "task": task,
        "verdict": sentences,
        "longer": [asdict(one) for one in longer],
        "curves": describe(curves),
        "rows": table,
        "test": on_test(plan, table),
        "differences": between_cells,
        "baselines": known.bits["validation"],
        "test_baselines": known.bits.get("test"),
        "ngram_order": known.ngram_order,
        "ngram_counts": known.ngram_counts,
        "claims": judge(Findings(plan, table, analyses, at_same_width)),
        "seeds": list(plan.seeds),
        "tuned": plan.searches,
        "time_budget": plan.entries[0].config.train.seconds if plan.match == "time" else None,
        "text": _text(plan),
        "same_width": _same_width(plan, at_same_width),
        "runs": [_run(one) for one in analyses],
        "prompt": prompt,
        "samples": {
            one.planned.entry.label: one.sample
            for one in analyses
            if one.planned.config.train.seed == first
        },
        "config": {e.label: to_toml(e.config) for e in plan.entries},
        "versions": {"charlm": __version__, **versions()},
        "machine": _machine(analyses[0]),
        "notes": _notes(plan, table),
    }


def _machine(one: RunAnalysis) -> dict[str, Any]:
    """Return the processor, device, precision and threads of a run."""
    computed = {key: one.summary[key] for key in ("device", "precision", "threads")}
    return {"processor": _processor(), **computed}


def _text(plan: Plan) -> dict[str, Any]:
    corpus = plan.corpus
    return {
        "name": plan.name,
        "characters": {name: split.characters for name, split in corpus.splits.items()},
        "vocabulary_size": len(corpus.vocabulary),
        "unit": corpus.vocabulary.unit,
        "fingerprint": corpus.fingerprint,
    }


def _same_width(plan: Plan, costs: Mapping[str, StepCost]) -> list[dict[str, Any]]:
    """Return speed and memory of every cell at the configuration's width."""
    rate = plan.corpus.train.characters / len(plan.corpus.train)
    return [
        {
            "cell": label,
            "hidden_size": one.config.model.hidden_size,
            "step_milliseconds": round(1000 * one.seconds_a_step, 4),
            "rounds": [round(1000 * seconds, 4) for seconds in one.step_seconds],
            "characters_per_second": round(one.characters_per_second(rate), 1),
            "memory_bytes": one.memory_bytes,
        }
        for label, one in costs.items()
    ]


def _run(one: RunAnalysis) -> dict[str, Any]:
    """Return a run's data for the figures."""
    return {
        "cell": one.planned.entry.label,
        "seed": one.planned.config.train.seed,
        "curve": one.curve,
        "sample_characters_per_second": round(one.sample_speed, 1),
        "test_bits_per_character": one.test_bits,
        "blocks": one.blocks,
        "gradient_trained": one.trained,
        "gradient_fresh": one.fresh,
    }


def _notes(plan: Plan, table: Sequence[Row]) -> list[str]:
    notes = []
    if not plan.searches:
        notes.append(
            "learning rate and dropout are those of the configuration; a cell may be better with "
            "others: --tune or --search 8 lets each search its own"
        )
    if len(plan.seeds) < ENOUGH:
        notes.append(
            f"{len(plan.seeds)} seed{'s show' if len(plan.seeds) > 1 else ' shows'} too little of "
            "the spread to judge differences between cells: use --seeds 5"
        )
    if any(row["peak_memory_bytes"] is None for row in table):
        notes.append("this system does not report the peak memory of a single run")
    if len(plan.corpus.train) > MOST_SYMBOLS:
        notes.append(f"the n-gram model and xz read the last {MOST_SYMBOLS:,} symbols of train")
    return notes


def _processor() -> str:
    """Return the processor's name, as reported by the system."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
