"""The learning rate as a pure function of the step, so that a resumed run repeats it exactly."""

import math

from charlm.config.schema import TrainConfig

JUMP = 1.2
"""Factor by which the rate may rise without a warning when a run is resumed."""
LOW = 0.05
"""Least share of the peak rate at which it is worthwhile to continue."""


def learning_rate(
    step: int, *, peak: float, warmup_steps: int, steps: int, final_fraction: float
) -> float:
    """Return the rate of step number `step` (counted from 0): linear warm-up, then half a cosine.

    It rises to `peak` over `warmup_steps` steps and falls to `final_fraction * peak` at `steps`.

    Source: Loshchilov and Hutter, SGDR (arXiv 1608.03983), equation 5, a single period.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
    return peak * (final_fraction + (1.0 - final_fraction) * cosine)


def rate_at(step: int, train: TrainConfig) -> float:
    """Return the rate of step number `step` of a configuration. See `learning_rate`."""
    return learning_rate(
        step,
        peak=train.learning_rate,
        warmup_steps=train.warmup_steps,
        steps=train.steps,
        final_fraction=train.final_learning_rate,
    )


def describe_jump(step: int, before: TrainConfig, after: TrainConfig) -> str:
    """Describe the rise of the rate in a run continued at `step` with another schedule, and the
    keys that keep it low; "" if the schedule is the same, or the rate rises by less than `JUMP`."""
    if not 0 < step < after.steps or _schedule(before) == _schedule(after):
        return ""
    reached, highest = rate_at(step - 1, before), _highest(step, after)
    low = max(reached, LOW * before.learning_rate)  # a cosine may have ended near 0
    if highest <= JUMP * max(low, _highest(step, before)):
        return ""
    keys = (f"learning_rate={low:.2g}", "final_learning_rate=1", "warmup_steps=0")
    options = " ".join(f"--set train.{key}" for key in keys)
    falls = rate_at(after.steps, after) < highest
    then = f", and falls again until step {after.steps:,}" if falls else ""
    return (
        f"the learning rate rises from {reached:.2g}, where the run stopped, to {highest:.2g}{then}"
        f"; to keep it low instead, stop, and repeat the command with {options}"
    )


def _highest(step: int, train: TrainConfig) -> float:
    """Return the highest rate from step number `step` on."""
    return rate_at(max(step, min(train.warmup_steps, train.steps - 1)), train)


def _schedule(train: TrainConfig) -> tuple[float, ...]:
    return train.learning_rate, train.warmup_steps, train.steps, train.final_learning_rate
