"""Execution of a comparison, from its plan to its result."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from charlm.common.errors import CharlmError, UsageError
from charlm.common.files import json_bytes, refuse_links
from charlm.common.files import replace as replace_file
from charlm.common.outputs import COMPARISON_FOLDERS
from charlm.comparison import extended_runs, measurements, time_budget, trials
from charlm.comparison.analysis import RunAnalysis, prompt_from
from charlm.comparison.baselines import Baselines
from charlm.comparison.curve_points import with_points
from charlm.comparison.extended_runs import LongerRun
from charlm.comparison.plan import Plan, PlannedRun, planned_runs
from charlm.comparison.plan_file import FILE, PlanFile, agreed_plan
from charlm.comparison.result import Result, make_result
from charlm.comparison.reuse import finished_state, is_finished
from charlm.comparison.runs import Runner, RunnerEvent
from charlm.comparison.searches import chosen_search, search_result
from charlm.comparison.step_cost import StepCost
from charlm.config.schema import to_toml
from charlm.text.corpus import Corpus

RESULT, RUNS, TUNING, LONGER = "compare.json", "runs", "tune", "longer"


@dataclass(frozen=True)
class Stage:
    """The beginning of a stage of the comparison."""

    doing: str


@dataclass(frozen=True)
class Compared:
    """The end of the comparison, with its result."""

    result: Result


Events = Iterator[Stage | RunnerEvent | Compared]


@dataclass(frozen=True)
class Agreed:
    """A plan as it was written before the first run, and the measurements that it depends on.

    costs: of the steps, by configuration in TOML. seconds_a_step: by label.
    """

    plan: Plan
    file: PlanFile
    costs: Mapping[str, StepCost]
    seconds_a_step: Mapping[str, float]


class _Stopped(Exception):  # noqa: N818 (no error)
    """Raised once `stop` was called; finished work is reused next time."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a comparison's folder. Raises: UsageError if another process writes it."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"{folder} is being written by another process", "wait for it, or stop it"
        ) from None
    try:
        yield
    finally:
        lock.release()


class Comparison:
    """A comparison in a directory of its own; `run` it again to continue where it stopped.

    goes_longer: True trains the best cell longer if no network beats the n-gram model. (Not on a
        task, which has a score of its own.)
    whole: the folder of the comparisons that this is one of, which continues them all.

    Raises: UsageError if `path` holds something else or cannot be written.
    """

    def __init__(
        self, plan: Plan, path: Path, *, goes_longer: bool = True, whole: Path | None = None
    ) -> None:
        self.plan, self.path, self._goes_longer = plan, path, goes_longer
        self._whole = whole or path
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()) and not (path / RUNS).is_dir():
                raise UsageError(
                    f"{path} exists and is no comparison", "give another --out, or an empty folder"
                )
            refuse_links(path, COMPARISON_FOLDERS)
            (path / RUNS).mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"cannot write the comparison {path}: {error.strerror}",
                "give an --out that you can write to",
            ) from None
        self._runner = Runner(plan.corpus)
        self.agreed: Agreed | None = None
        """The plan, once `prepare` has written it."""

    @property
    def corpora(self) -> dict[str, Corpus]:
        """The text, by name."""
        return {self.plan.name: self.plan.corpus}

    def was_stopped(self) -> bool:
        """Return True if `stop` was called."""
        return self._runner.stopped

    def stop(self) -> None:
        """Request that `run` end after the current step (safe in a signal handler)."""
        self._runner.stop()

    def run(self, command: str = "", seconds_after: float = 0.0) -> Events:
        """Measure, train and judge; end without `Compared` if `stop` was called.

        command: the user's command line, for the report. seconds_after: expected of other
        comparisons after this one, for the estimate of the seconds left.

        Raises: UsageError (another process writes it; a run of something else is in its place),
            DataError (text too short), CheckpointError, DivergedError, CharlmError (the disk is
            full). Finished runs are kept.
        """
        self._runner.seconds_after = seconds_after
        with self._writing():
            yield from self._run(command)

    def prepare(self) -> Events:
        """Measure the steps and write the plan, as `run` would; end early if `stop` was called.

        Raises: as `run`.
        """
        with self._writing():
            yield from self._prepare()

    def expected_runs(self) -> list[PlannedRun]:
        """List the runs that are not finished, after `prepare`; of a search only the first ones."""
        assert self.agreed is not None
        plan, seconds_a_step = self.agreed.plan, self.agreed.seconds_a_step
        runs = planned_runs(plan, self.path / RUNS, seconds_a_step)
        if search := chosen_search(plan):
            runs += search.next_runs(plan, [], self.path / TUNING, seconds_a_step)
        return [run for run in runs if not is_finished(run)]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Lock the folder during a `with` block, which `_Stopped` ends.

        Raises: UsageError if another process writes it; CharlmError for an error of the disk.
        """
        with locked(self.path):
            try:
                yield
            except _Stopped:
                return
            except OSError as error:
                raise self._cannot_write(error) from None

    def _run(self, command: str) -> Events:
        began = time.perf_counter()
        if self.agreed is None:
            yield from self._prepare()
        assert self.agreed is not None
        plan, plan_file = self.agreed.plan, self.agreed.file
        costs, seconds_a_step = self.agreed.costs, self.agreed.seconds_a_step
        tried: list[trials.Trial] = []
        search, searched = chosen_search(plan), plan
        if search is not None:
            yield from self._search(search, plan, seconds_a_step, tried)
            plan = trials.tuned(plan, tried)
        planned = planned_runs(plan, self.path / RUNS, seconds_a_step)
        yield from self._train(f"training {len(planned)} runs", planned)
        yield from self._stage("analysing the trained runs")
        prompt = prompt_from(plan.corpus)
        analyses = measurements.analyses(self.path, planned, plan, prompt)
        yield from self._stage("counting and compressing, for the baselines")
        known = measurements.known_baselines(self.path, plan)
        beyond: list[LongerRun] = []
        self._end_if_stopped()
        if self._goes_longer and plan.task is None:
            yield from self._beat(known, plan, analyses, seconds_a_step, beyond)
        if len(plan.corpus.splits["test"]):
            yield from self._stage("scoring the test split, after all choices")
            analyses = measurements.with_test_bits(self.path, planned, plan, analyses)
        result = make_result(plan, analyses, costs, known, beyond, prompt)
        result["plan"] = plan_file.as_json()
        result["tuning"] = [asdict(one) for one in tried] if plan.tune else []
        uniform = known.bits["validation"]["uniform"]
        result["search"] = search_result(searched, tried, uniform)
        result["notes"] += search.at_the_edge(searched, tried) if search else []
        result["command"] = command
        result["seconds"] = {
            "training": round(sum(one.summary["seconds"] for one in analyses), 3),
            "last_call": round(time.perf_counter() - began, 3),
        }
        yield Compared(result)

    def _prepare(self) -> Events:
        """Measure the steps and write the plan."""
        plan = self.plan
        yield Stage("measuring a few steps of every cell")
        costs = measurements.step_costs(self.path, plan, self._end_if_stopped)
        seconds_a_step = {e.label: costs[to_toml(e.config)].seconds_a_step for e in plan.entries}
        if plan.match == "time":
            plan = time_budget.with_timing(
                plan, time_budget.agreed(plan, self.path, seconds_a_step)
            )
        plan = with_points(plan, self.path / RUNS, seconds_a_step, earlier=self.path / TUNING)
        plan_file = agreed_plan(plan, self.path, lambda: self._refuse_others(plan, seconds_a_step))
        self.agreed = Agreed(plan, plan_file, costs, seconds_a_step)
        yield Stage(f"the plan: {FILE}, SHA-256 {plan_file.sha256}")

    def _refuse_others(self, plan: Plan, seconds_a_step: Mapping[str, float]) -> None:
        """Refuse the folder if it has runs of another plan. Raises: UsageError, CheckpointError."""
        runs = planned_runs(plan, self.path / RUNS, seconds_a_step)
        if search := chosen_search(plan):
            runs = search.next_runs(plan, [], self.path / TUNING, seconds_a_step)
        for run in runs:
            finished_state(run, plan.corpus)

    def _stage(self, doing: str) -> Events:
        """Begin another stage. Raises: _Stopped once `stop` was called."""
        self._end_if_stopped()
        yield Stage(doing)

    def _end_if_stopped(self) -> None:
        if self.was_stopped():
            raise _Stopped

    def _train(self, doing: str, planned: list[PlannedRun], *, tolerant: bool = False) -> Events:
        yield from self._stage(doing)
        yield from self._runner.run(planned, tolerant=tolerant)
        self._end_if_stopped()

    def _search(
        self,
        search: trials.Search,
        plan: Plan,
        seconds_a_step: Mapping[str, float],
        tried: list[trials.Trial],
    ) -> Events:
        """Search every cell's learning rate and dropout; fill `tried`."""
        while searched := search.next_runs(plan, tried, self.path / TUNING, seconds_a_step):
            doing = f"looking for learning rates and dropout: {len(searched)} runs"
            yield from self._train(doing, searched, tolerant=True)
            tried += trials.results(searched)

    def _beat(
        self,
        known: Baselines,
        plan: Plan,
        analyses: Sequence[RunAnalysis],
        seconds_a_step: Mapping[str, float],
        outcomes: list[LongerRun],
    ) -> Events:
        """Train the best cell longer until it beats the n-gram model's bits; fill `outcomes`."""
        ngram = known.bits["validation"]["ngram"]
        label, bits = extended_runs.best_cell(plan, analyses)
        for times in extended_runs.TIMES:
            if bits < ngram:
                return
            run = extended_runs.longer_run(
                plan, label, times, self.path / LONGER, seconds_a_step[label]
            )
            doing = f"no network beats counting, {ngram:.3f} bits: {label} trains {run.note}"
            yield from self._train(doing, [run], tolerant=True)
            outcomes.append(extended_runs.outcome(run, times, ngram))
            bits = outcomes[-1].bits_per_character or math.inf  # None: it has diverged

    def write(self, result: Result) -> None:
        """Write compare.json. Raises: CharlmError if it cannot be written."""
        try:
            replace_file(self.path / RESULT, json_bytes(result))
        except OSError as error:
            raise self._cannot_write(error) from None

    def _cannot_write(self, error: OSError) -> CharlmError:
        return CharlmError(
            f"cannot write {error.filename or self.path}: {error.strerror}",
            f"make room, then run the same command again with --out {self._whole}: "
            "finished work is reused",
        )
