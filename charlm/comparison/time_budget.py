"""Steps for `--match time`: every cell trains for the same time."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from charlm.common.errors import CheckpointError, UsageError
from charlm.common.files import json_bytes, read_regular, replace
from charlm.comparison.cells import Entry
from charlm.comparison.plan import Plan

FILE = "timing.json"


def timed(plan: Plan, seconds_a_step: Mapping[str, float]) -> dict[str, Any]:
    """Return the training seconds of every cell, and the steps that each takes in them.

    Each cell gets a number of steps, so that its learning rate has decayed when the time is up. The
    time is train.seconds or, if that is 0, the mean over the cells of the time of train.steps.
    """
    asked = plan.entries[0].config.train
    needed = [seconds_a_step[entry.label] * asked.steps for entry in plan.entries]
    budget = asked.seconds or sum(needed) / len(needed)
    steps = {e.label: max(1, round(budget / seconds_a_step[e.label])) for e in plan.entries}
    return {
        "asked_seconds": asked.seconds,
        "asked_steps": asked.steps,
        "seconds": round(budget, 3),
        "steps": steps,
    }


def agreed(plan: Plan, folder: Path, seconds_a_step: Mapping[str, float]) -> dict[str, Any]:
    """Return the timing with which the runs in `folder` were begun, or a new one.

    A cell that is not in it gets steps for the same seconds.

    Raises: UsageError if it was made for other train.steps or train.seconds; CheckpointError if its
        file is damaged.
    """
    path = folder / FILE
    fresh = timed(plan, seconds_a_step)
    if not path.is_file():
        replace(path, json_bytes(fresh))
        return fresh
    try:
        before = json.loads(read_regular(path))
        steps = {str(label): int(count) for label, count in before["steps"].items()}
        asked = {key: float(before[key]) for key in ("asked_seconds", "asked_steps", "seconds")}
        if min(steps.values()) < 1 or not 0 < asked["seconds"] < 10**9:
            raise ValueError("a number is not positive")
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError),
        OverflowError,
    ) as error:
        raise CheckpointError(
            f"{path} is damaged: {error}", "give another --out, or delete this comparison"
        ) from None
    for key in ("asked_steps", "asked_seconds"):
        if asked[key] != fresh[key]:
            raise UsageError(
                f"{folder} was begun with train.{key.removeprefix('asked_')} = {asked[key]:g}, "
                f"not {fresh[key]:g}",
                "give another --out, or the settings that it was begun with",
            )
    for label, seconds in seconds_a_step.items():
        steps.setdefault(label, max(1, round(asked["seconds"] / seconds)))
    timing = {**fresh, "seconds": asked["seconds"], "steps": steps}
    replace(path, json_bytes(timing))
    return timing


def with_timing(plan: Plan, timing: Mapping[str, Any]) -> Plan:
    """Return the plan with the steps of a timing; evaluations and warm-up are scaled likewise."""

    def scaled(entry: Entry) -> Entry:
        train, steps = entry.config.train, int(timing["steps"][entry.label])
        share = steps / train.steps
        return entry.with_train(
            steps=steps,
            seconds=float(timing["seconds"]),
            warmup_steps=round(train.warmup_steps * share),
            eval_every=max(1, round(train.eval_every * share)),
            checkpoint_every=max(1, round(train.checkpoint_every * share)),
        )

    return dataclasses.replace(plan, entries=tuple(scaled(entry) for entry in plan.entries))
