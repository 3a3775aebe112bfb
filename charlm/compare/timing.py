"""Steps for `--match time`: every cell trains for as long as the others."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from charlm.compare.plan import Entry, Plan


def timed(plan: Plan, seconds_a_step: Mapping[str, float]) -> dict[str, Any]:
    """Training seconds for every cell alike, and the steps that each takes in them, so that every
    learning rate has come down when time is up.

    The budget is train.seconds or, where that is 0, the mean of what train.steps take.
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


def fits(plan: Plan, timing: Mapping[str, Any]) -> bool:
    """Whether a timing measured earlier is for this plan."""
    asked = plan.entries[0].config.train
    same = timing["asked_seconds"] == asked.seconds and timing["asked_steps"] == asked.steps
    return same and {e.label for e in plan.entries} <= set(timing["steps"])


def with_timing(plan: Plan, timing: Mapping[str, Any]) -> Plan:
    """The plan with the steps of a timing, evaluations and warm-up at the same shares of them."""

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

    return replace(plan, entries=tuple(scaled(entry) for entry in plan.entries))
