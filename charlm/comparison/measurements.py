"""Measurements of a comparison, each made once: its folder keeps them for the next call."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from charlm.backends.device import versions
from charlm.common.version import __version__
from charlm.comparison.analysis import (
    BLOCKS,
    RunAnalysis,
    analyse,
    block_bits,
    load_run,
    test_bits,
    writing_speeds,
)
from charlm.comparison.baselines import Baselines, baselines
from charlm.comparison.cache import cached
from charlm.comparison.plan import Plan, PlannedRun
from charlm.comparison.reuse import summary
from charlm.comparison.step_cost import StepCost, measure_steps
from charlm.config.schema import to_toml

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
STEPS = TypeAdapter(list[tuple[list[Positive], Annotated[int, Field(ge=0)] | None]])
SPEEDS = TypeAdapter(list[Positive])
SCORE = TypeAdapter(Annotated[float, Field(ge=0, allow_inf_nan=False)])
BLOCK_BITS = TypeAdapter(list[list[Annotated[float, Field(ge=0, allow_inf_nan=False)]]])
BASELINES = TypeAdapter(Baselines)


def step_costs(folder: Path, plan: Plan, check: Callable[[], None]) -> dict[str, StepCost]:
    """Measure every cell at its own and at the common width, by configuration in TOML.

    check: as for `measure_steps`.
    """
    configs = {to_toml(e.config): e.config for e in (*plan.entries, *plan.same_width)}

    def measure() -> list[Any]:
        costs = measure_steps(list(configs.values()), plan.corpus, check)
        return [[one.step_seconds, one.memory_bytes] for one in costs]

    key = [plan.corpus.fingerprint, list(configs), versions()]

    def read(costs: Any) -> dict[str, StepCost]:
        return {
            toml: StepCost(config, tuple(seconds), memory)
            for (toml, config), (seconds, memory) in zip(
                configs.items(), STEPS.validate_python(costs), strict=True
            )
        }

    return cached(folder, "steps", key, measure, read)


def analyses(
    folder: Path, finished: Sequence[PlannedRun], plan: Plan, prompt: str
) -> list[RunAnalysis]:
    """Analyse the finished runs; of each, measure its writing speed and its bits of every block."""
    opened = [load_run(planned) for planned in finished]
    key = [[summary(planned), versions()] for planned in finished]
    speeds = cached(folder, "writing", key, lambda: writing_speeds(opened), SPEEDS.validate_python)
    blocks = cached(
        folder,
        "blocks",
        [*key, plan.corpus.fingerprint, BLOCKS],
        lambda: [
            block_bits(planned, model, plan.corpus)
            for planned, (_, model) in zip(finished, opened, strict=True)
        ],
        BLOCK_BITS.validate_python,
    )
    return analyse(finished, opened, speeds, plan.corpus, prompt, blocks)


def with_test_bits(
    folder: Path, finished: Sequence[PlannedRun], plan: Plan, analysed: Sequence[RunAnalysis]
) -> list[RunAnalysis]:
    """Add the scores on the test split; each run is scored once."""
    bits = [
        cached(
            folder,
            "test",
            [summary(planned), plan.corpus.fingerprint],
            lambda run=planned: test_bits(run, plan.corpus),  # type: ignore[misc]
            SCORE.validate_python,
        )
        for planned in finished
    ]
    return [replace(one, test_bits=own) for one, own in zip(analysed, bits, strict=True)]


def known_baselines(folder: Path, plan: Plan) -> Baselines:
    """Measure the bits of counting and compressing the text."""
    key = [__version__, plan.corpus.fingerprint]
    return cached(
        folder,
        "baselines",
        key,
        lambda: asdict(baselines(plan.corpus)),
        BASELINES.validate_python,
    )
