"""`charlm train --log`: the metrics in TensorBoard's and trackio's logs, none of them twice."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, Command, words
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from charlm.runs.metrics import read_metrics

SETS = [part for change in [*TINY, "train.steps=24"] for part in ("--set", change)]


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "words.txt").write_text(words(1500), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    return "words.txt"


def logged(folder: Path) -> Counter[tuple[str, int, float]]:
    """The scalars in TensorBoard's files: name, step, value; how often."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return Counter(
        (name, event.step, round(event.value, 4))
        for name in events.Tags()["scalars"]
        for event in events.Scalars(name)
    )


def wanted(run: Path) -> Counter[tuple[str, int, float]]:
    """The same of metrics.jsonl."""
    return Counter(
        (f"{row['kind']}/{name}", row["step"], round(float(value), 4))
        for row in read_metrics(run)
        for name, value in row.items()
        if isinstance(value, int | float) and name not in ("step", "characters", "seconds")
    )


@pytest.mark.filterwarnings("ignore")  # of TensorBoard's own imports
def test_tensorboard_has_every_row_once(text: str, command: Command) -> None:
    """Also after a resume from a checkpoint before the last row."""
    run = Path("run")
    done = command("train", text, "--run", "run", *SETS, "-q", "--json", "--log", "tensorboard")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 24
    assert logged(run / "tensorboard") == wanted(run)
    latest = (run / "checkpoints" / "latest").read_text()
    steps = sorted(path.name for path in (run / "checkpoints").glob("step-*"))
    (run / "checkpoints" / "latest").write_text(latest.replace(steps[-1], steps[-2]))
    done = command("train", "--resume", "--run", "run", "-q", "--set", "train.steps=30")
    assert done.returncode == 0, done.stderr
    found = logged(run / "tensorboard")
    assert set(found.values()) == {1}
    assert found.keys() >= wanted(run).keys() - {key for key in wanted(run) if key[1] <= 24}


@pytest.mark.filterwarnings("ignore")
def test_trackio_has_the_metrics(text: str, command: Command) -> None:
    done = command("train", text, "--run", "run", *SETS, "-q", "--json", "--log", "trackio")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 24
    found = rows_of_trackio("run")
    own = read_metrics(Path("run"))
    losses = {row["step"]: row["loss"] for row in own if row["kind"] == "train"}
    assert {r["step"]: r["train/loss"] for r in found if "train/loss" in r} == pytest.approx(losses)
    assert any(row.get("sample") for row in found)


def rows_of_trackio(name: str) -> list[dict[str, Any]]:
    from trackio.sqlite_storage import SQLiteStorage

    return list(SQLiteStorage.get_logs("charlm", name))


def test_missing_package_is_named_before_anything_begins(
    text: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charlm.runs.logs.find_spec", lambda name: None)
    done = command("train", text, "--run", "run", *SETS, "-q", "--log", "trackio")
    assert done.returncode == 2
    assert "pip install 'charlm[trackio]'" in done.stderr
    assert not Path("run").exists()
    done = command("train", text, "--run", "run", *SETS, "-q", "--log", "paper")
    assert done.returncode == 2
    assert "paper" in done.stderr


def test_without_a_log_none_is_written(text: str, command: Command) -> None:
    assert command("train", text, "--run", "run", *SETS, "-q").returncode == 0
    assert not Path("run/tensorboard").exists()
