"""Execution of a comparison's runs, one after another.

A stopped run is resumed, a finished one reused. They are ordinary runs by the ordinary trainer.
Events are yielded, nothing is printed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from charlm.backends.device import reset_peak_memory, resolve_device
from charlm.common.errors import DivergedError
from charlm.comparison.plan import PlannedRun
from charlm.comparison.reuse import differences, finished_state
from charlm.runs.directory import RunDirectory
from charlm.text.corpus import Corpus
from charlm.training import setup
from charlm.training.events import Event, Finished, Trained
from charlm.training.prepare import PreparedRun
from charlm.training.trainer import Trainer


@dataclass(frozen=True)
class Begun:
    """The beginning of a run of the comparison.

    number: from 1. step: the step at which it continues. reused: True if it was already finished.
    differences: changes of the environment since it was trained.
    """

    planned: PlannedRun
    number: int
    total: int
    step: int
    reused: bool
    differences: list[str]


@dataclass(frozen=True)
class Advanced:
    """An event of the current run. seconds_left: estimate for the whole plan."""

    planned: PlannedRun
    event: Event
    seconds_left: float


@dataclass(frozen=True)
class Diverged:
    """A run that has diverged, without a result."""

    planned: PlannedRun
    error: DivergedError


RunnerEvent = Begun | Advanced | Diverged


class Runner:
    """The execution of planned runs. `stop()` ends the current one, with a checkpoint."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.stopped = False
        self.seconds_after = 0.0
        """Expected seconds of other work after these runs."""
        self._trainer: Trainer | None = None
        self._drift = 1.0
        """Ratio of the seconds that runs take to those expected."""

    def stop(self) -> None:
        """Request that `run` end (safe in a signal handler)."""
        self.stopped = True
        if self._trainer is not None:
            self._trainer.stop()

    def run(
        self, planned_runs: Sequence[PlannedRun], *, tolerant: bool = False
    ) -> Iterator[RunnerEvent]:
        """Carry out the runs that are not finished. If a folder holds a run with other settings or
        of another text, an error is raised before the first one starts.

        tolerant: True continues after a run that diverges, with a `Diverged` event.

        Raises: UsageError, DataError, CheckpointError; DivergedError (the other runs are kept).
        """
        finished = [finished_state(planned, self.corpus) for planned in planned_runs]
        for at, planned in enumerate(planned_runs):
            if self.stopped:
                return
            if (state := finished[at]) is not None:
                yield Begun(
                    planned,
                    at + 1,
                    len(planned_runs),
                    planned.steps,
                    True,
                    differences(state),
                )
                continue
            after = self.seconds_after + sum(
                other.seconds
                for other, done in zip(planned_runs[at + 1 :], finished[at + 1 :], strict=True)
                if done is None
            )
            diverged = None
            try:
                yield from self._run(planned, at + 1, len(planned_runs), after)
            except DivergedError as error:
                if not tolerant:
                    raise DivergedError(f"{planned.name}: {error.what}", error.advice) from None
                diverged = DivergedError(error.what, error.advice)  # without a trace to the model
            if diverged is not None:
                yield Diverged(planned, diverged)

    def _run(
        self, planned: PlannedRun, number: int, total: int, after: float
    ) -> Iterator[RunnerEvent]:
        known = reset_peak_memory(resolve_device(planned.config.train.device))
        trainer, directory, unlike = _trainer(planned, self.corpus)
        self._trainer = trainer
        if self.stopped:  # requested while the trainer was being made
            trainer.stop()
        left = planned.seconds
        try:
            yield Begun(planned, number, total, trainer.progress.step, False, unlike)
            for event in trainer.train(directory):
                if isinstance(event, Trained):
                    self._drift = event.seconds / event.step / planned.seconds_a_step
                    left = planned.seconds * (1 - event.step / planned.steps)
                elif isinstance(event, Finished):
                    left = 0.0
                    if not known:  # the process's peak is not that of this run
                        directory.write_summary({**event.summary, "peak_memory_bytes": None})
                yield Advanced(planned, event, (left + after) * self._drift)
        finally:
            directory.unlock()
            self._trainer = None
            del trainer  # the last reference: the next run's memory does not include this one's


def _trainer(planned: PlannedRun, corpus: Corpus) -> tuple[Trainer, RunDirectory, list[str]]:
    """Return the trainer of a new or stopped run, its locked directory and its differences."""
    if RunDirectory(planned.path).has_checkpoints():
        resumed = setup.resume(planned.path, flags={"data.path": planned.config.data.path})
        return resumed.trainer, resumed.run, resumed.differences
    prepared = PreparedRun(planned.name, planned.config, {}, corpus)
    trainer, run = setup.begin(prepared, planned.path)
    return trainer, run, []
