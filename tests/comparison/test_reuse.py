"""Runs in a comparison's folder: those that are reused, refused, stopped or still expected."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import CELLS, planned

from charlm.common.errors import CheckpointError, UsageError
from charlm.comparison import time_budget
from charlm.comparison.curve_points import with_points
from charlm.comparison.execution import Comparison
from charlm.comparison.extended_runs import LongerRun, longer_run, outcome
from charlm.comparison.plan import Plan, PlannedRun, planned_runs
from charlm.comparison.reuse import finished_state
from charlm.comparison.runs import Begun, Runner

SPEEDS = dict.fromkeys(CELLS, 0.01)


def first_run(plan: Plan, folder: Path) -> PlannedRun:
    """The first run of a comparison in a folder, with as many evaluations as are made there."""
    runs = folder / "runs"
    return planned_runs(with_points(plan, runs, SPEEDS, earlier=runs), runs, SPEEDS)[0]


def test_finished_run_on_another_text_is_refused(finished: tuple[Path, Path, Any]) -> None:
    text, folder, _ = finished
    plan = planned(text, CELLS)
    run = first_run(plan, folder)
    state = finished_state(run, plan.corpus)
    assert state is not None
    assert state.corpus == plan.corpus.fingerprint
    with pytest.raises(UsageError) as refused:
        finished_state(run, replace(plan.corpus, fingerprint="0" * 64))
    assert refused.value.what == f"{run.path} cannot be reused: it was trained on another text"


def test_summary_of_another_checkpoint_is_damaged(
    finished: tuple[Path, Path, Any], tmp_path: Path
) -> None:
    text, folder, _ = finished
    copy = shutil.copytree(folder, tmp_path / "copy")
    plan = planned(text, CELLS)
    run = first_run(plan, copy)
    summary = json.loads((run.path / "summary.json").read_bytes())
    assert finished_state(run, plan.corpus) is not None
    better = {**summary["best"], "bits_per_character": 0.5}
    for change in ({"steps": summary["steps"] - 1}, {"best": better}):
        (run.path / "summary.json").write_text(json.dumps({**summary, **change}))
        with pytest.raises(CheckpointError) as damaged:
            finished_state(run, plan.corpus)
        assert damaged.value.what.endswith(
            "summary.json is damaged: it does not match the checkpoint"
        )
        assert damaged.value.advice.startswith(f"delete {run.path}; ")


def test_stop_before_the_first_step_leaves_a_stopped_run(text_file: Path, tmp_path: Path) -> None:
    plan = planned(text_file, ["rnn"], seeds=1)
    run, runner = first_run(plan, tmp_path), Runner(plan.corpus)
    runner.stop()  # as a signal does while the trainer is being made
    begun, *_ = list(runner._run(run, 1, 1, 0.0))
    assert begun == Begun(run, 1, 1, 0, reused=False, differences=[])
    summary = json.loads((run.path / "summary.json").read_bytes())
    assert (summary["stopped_by"], summary["best"]) == ("signal", None)
    assert summary["steps"] <= 1
    assert finished_state(run, plan.corpus) is None


def test_peak_memory_of_the_process_is_not_that_of_a_run(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_text

    def forbidden(path: Path, *given: Any, **options: Any) -> int:
        if str(path) == "/proc/self/clear_refs":
            raise PermissionError(13, "Permission denied")
        return write(path, *given, **options)

    monkeypatch.setattr(Path, "write_text", forbidden)
    plan = planned(text_file, ["rnn"], seeds=1)
    run = first_run(plan, tmp_path)
    *_, last = Runner(plan.corpus).run([run])
    summary = json.loads((run.path / "summary.json").read_bytes())
    assert summary["peak_memory_bytes"] is None
    assert summary["stopped_by"] == "steps"
    assert {**last.event.summary, "peak_memory_bytes": None} == summary  # type: ignore[union-attr]


@pytest.mark.parametrize("terms", [{"search": 3}, {"tune": True}, {}])
def test_runs_of_a_search_are_expected_before_those_that_it_chooses(
    text_file: Path, tmp_path: Path, terms: dict[str, Any]
) -> None:
    plan = planned(text_file, ["rnn"], match="hidden", seeds=2, **terms)
    comparison = Comparison(plan, tmp_path / "c")
    list(comparison.prepare())
    expected = comparison.expected_runs()
    folders = [run.path.parent.name for run in expected]
    assert folders[:2] == ["runs", "runs"]
    assert set(folders[2:]) == ({"tune"} if terms else set())
    assert len({run.path for run in expected}) == len(expected)
    if terms.get("search"):
        assert len(expected) == 2 + 3
    assert all(run.seconds > 0 for run in expected)


def test_longer_run_that_has_diverged_beats_nothing(text_file: Path, tmp_path: Path) -> None:
    plan = planned(text_file, ["rnn"])
    run = longer_run(plan, "rnn", 2, tmp_path / "longer", 0.01)
    assert outcome(run, 2, 3.0) == LongerRun("rnn", 2, 24, None, False)


def test_width_of_its_own_is_kept_where_seconds_are_equal(text_file: Path) -> None:
    plan = planned(text_file, ["rnn:hidden_size=20", "gru", "lstm"], match="time")
    rnn, gru, lstm = (entry.config.model.hidden_size for entry in plan.entries)
    assert (rnn, lstm) == (20, 64)
    assert gru > lstm


@pytest.mark.parametrize(("key", "value"), [("rnn", 0), ("seconds", 0), ("seconds", 1e9)])
def test_timing_of_no_steps_or_no_seconds_is_damaged(
    text_file: Path, tmp_path: Path, key: str, value: float
) -> None:
    plan = planned(text_file, ["rnn", "lstm"], match="time")
    speeds = {"rnn": 0.01, "lstm": 0.03}
    timing = time_budget.agreed(plan, tmp_path, speeds)
    assert time_budget.agreed(plan, tmp_path, speeds) == timing
    changed = timing if key == "seconds" else timing["steps"]
    changed[key] = value
    (tmp_path / time_budget.FILE).write_text(json.dumps(timing))
    with pytest.raises(CheckpointError) as damaged:
        time_budget.agreed(plan, tmp_path, speeds)
    assert damaged.value.what.endswith("timing.json is damaged: a number is not positive")
