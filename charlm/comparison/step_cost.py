"""Speed and memory of a training step; cells take turns, so that drift affects all alike."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from charlm.backends.device import memory_in_use, peak_memory, reset_peak_memory, resolve_device
from charlm.config.schema import Config
from charlm.text.corpus import Corpus
from charlm.training.learner import Learner, learner_of

ROUNDS = 7
MEMORY_ROUNDS = 3
WARM_UP_STEPS = 3
SECONDS_A_TURN = 0.06
"""Approximate seconds of repeated steps in one turn: 7 rounds of 6 models take 3 seconds."""


@dataclass(frozen=True)
class StepCost:
    """The cost of a training step. step_seconds: a value per round, paired over all models.

    memory_bytes: peak memory of training, less the memory in use before; None if the system does
    not report it.
    """

    config: Config
    step_seconds: tuple[float, ...]
    memory_bytes: int | None

    @property
    def seconds_a_step(self) -> float:
        return statistics.median(self.step_seconds)

    def characters_per_second(self, characters_per_symbol: float) -> float:
        train = self.config.train
        symbols = train.lanes * train.sequence_length
        return symbols * characters_per_symbol / self.seconds_a_step


def measure_steps(
    configs: Sequence[Config], corpus: Corpus, check: Callable[[], None] = lambda: None
) -> list[StepCost]:
    """Time the steps of each configuration in interleaved rounds.

    check: called before every few steps; it may raise to end the measurement. Raises: as `Learner`.
    """

    def started(config: Config) -> tuple[Learner, int | None]:
        check()
        return _started(config, corpus)

    def timed(learner: Learner, steps: int) -> float:
        check()
        return _timed(learner, steps)

    for config in configs:  # warm-up: the first call makes allocations shared by all
        started(config)
    held = [[started(config)[1] for config in configs] for _ in range(MEMORY_ROUNDS)]
    memory = [_median(values) for values in zip(*held, strict=True)]
    learners = [started(config)[0] for config in configs]
    turns = [max(1, min(20, round(SECONDS_A_TURN / timed(one, 1)))) for one in learners]
    rounds = [
        [timed(one, count) for one, count in zip(learners, turns, strict=True)]
        for _ in range(ROUNDS)
    ]
    by_model = zip(*rounds, strict=True)
    return [
        StepCost(config, tuple(seconds), held)
        for config, seconds, held in zip(configs, by_model, memory, strict=True)
    ]


def _median(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return int(statistics.median(known)) if len(known) == len(values) else None


def _started(config: Config, corpus: Corpus) -> tuple[Learner, int | None]:
    """Take a learner's first steps; return it and the memory that they took."""
    on = resolve_device(config.train.device)
    known = reset_peak_memory(on)
    before = memory_in_use(on)
    learner = learner_of(config, corpus)
    _timed(learner, WARM_UP_STEPS)
    return learner, peak_memory(on) - before if known and before else None


def _timed(learner: Learner, steps: int) -> float:
    """Return the mean seconds of a step."""
    began = time.perf_counter()
    for _ in range(steps):
        norm = learner.take_step()
    norm.item()  # waits for the device
    return (time.perf_counter() - began) / steps
