"""Comparisons on a task: exact scores of ordinary runs, reused, on the page and in the JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Command

import charlm
from charlm import api
from charlm.common.errors import DataError, UsageError
from charlm.comparison.answering import solved_to, task_sentences
from charlm.comparison.answers import answer
from charlm.reports.figures import pictures
from charlm.text.files.tasks import TASKS, TIMES

SMALL = [part for change in (*TINY, "model.hidden_size=16") for part in ("--set", change)]
COMPARE = ["compare", "rnn", "gru", "--task", "count", "--match", "hidden", "--seeds", "2", *SMALL]


def test_a_task_is_compared_reused_and_shown(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command(*COMPARE, "--json", "-q")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    task, out = result["task"], tmp_path / "runs" / "compare-1"
    assert (task["name"], task["longest_trained"]) == ("count", 32)
    assert [test["lengths"] for test in task["tests"]] == [[17, 32], [33, 64], [65, 128]]
    assert [test["examples"] for test in task["tests"]] == [200, 200, 200]
    assert result["longer"] == []
    assert [claim["claim"].partition(" ")[0] for claim in result["claims"]] == [
        "recurrent",
        "a",
        "a",
    ]
    assert result["text"]["vocabulary_size"] == 5
    assert "--task count" in result["command"]
    for row, scores in zip(result["rows"], task["rows"], strict=True):
        assert row["cell"] == scores["cell"]
        for at, path in enumerate(row["runs"]):
            assert_scores(api.load(out / path, which="latest"), scores["scores"], at)

    plan = json.loads((out / "plan.json").read_text())
    said = " ".join(plan["statistics"])
    assert "the last weights of a run answer, not the checkpoint" in said
    assert "1x: 17 to 32, 2x: 33 to 64, 4x: 65 to 128" in said
    assert "at least 99 % of the examples are right with every seed" in said
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<h2>The answers</h2>" in page
    assert "200 examples" in page
    assert "as many letters b as a. As in" in page
    assert (out / "figures" / "answers.png").is_file()
    first = pictures(result)[0]
    assert first.name == "answers"
    assert first.title == "No cell solves count at the lengths trained"
    solved = [
        {**one, "solved_to": times} for one, times in zip(task["rows"], (4, None), strict=True)
    ]
    shown = pictures({**result, "task": {**task, "rows": solved}})[0]
    assert shown.title == "rnn solves count at 4x"

    again = command(*COMPARE, "--out", str(out))
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("found finished") == 4
    assert f"count, as in {task['example']}" in again.stdout
    assert "1x: 17 to 32" in again.stdout
    other = command(*COMPARE[:4], "copy", *COMPARE[5:], "--out", str(out))
    assert other.returncode == 2
    assert "settings that this comparison was begun with" in other.stderr


def assert_scores(run: Any, scores: list[dict[str, Any]], seed: int) -> None:
    """Compare the scores of a run with those of its last weights."""
    task = TASKS["count"]
    for times, score in zip(TIMES, scores, strict=True):
        found = answer(run.model, run.vocabulary, task.tests(times), ends=True)
        assert score["times"] == times
        assert score["right"]["values"][seed] == found.right.mean()
        assert score["symbols"]["values"][seed] == pytest.approx(np.mean(found.symbols))


def row(cell: str, *solved: bool) -> dict[str, Any]:
    scores = [{"times": t, "solved": s} for t, s in zip(TIMES, solved, strict=True)]
    return {"cell": cell, "scores": scores, "solved_to": solved_to(scores)}


def test_a_cell_solves_a_task_as_far_as_it_does_without_a_gap() -> None:
    rows = [
        row("rnn", False, False, False),
        row("odd", False, True, True),
        row("gru", True, False, True),
        row("lstm", True, True, True),
    ]
    assert [one["solved_to"] for one in rows] == [None, None, 1, 4]
    assert task_sentences(TASKS["parity"], rows, 3) == [
        "With each of 3 seeds lstm solves parity up to 4 times the lengths trained.",
        "With each of 3 seeds gru solves parity at the lengths trained, but not beyond.",
        "rnn and odd do not solve parity at the lengths trained.",
    ]


def test_a_task_of_another_kind_is_refused_in_python(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no task is called 'sort'"):
        charlm.compare("rnn", task="sort", out=tmp_path / "x")
    with pytest.raises(UsageError, match="so data cannot be given"):
        charlm.compare("rnn", task="copy", data="words.txt", out=tmp_path / "x")
    assert not (tmp_path / "x").exists()
