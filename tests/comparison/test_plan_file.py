"""The plan of a comparison: written before the first run, and what it refuses afterwards."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import CELLS, carried_out, planned

from charlm.common.errors import UsageError
from charlm.common.files import json_bytes
from charlm.comparison.execution import RUNS, Comparison
from charlm.comparison.plan import planned_runs
from charlm.comparison.plan_file import BEFORE, COPY, FILE, agreed_plan, kept
from charlm.comparison.runs import Begun, Runner


def test_plan_is_there_before_the_first_run(text_file: Path, tmp_path: Path) -> None:
    given = planned(text_file, ["rnn", "gru:bias=false"], seeds=2)
    seen = None
    for event in Comparison(given, tmp_path / "c").run():
        if isinstance(event, Begun) and seen is None:
            seen = (tmp_path / "c" / "plan.json").read_bytes()
            assert not any((tmp_path / "c" / RUNS).glob("*/checkpoints/step-*"))
    assert seen is not None
    found = json.loads(seen)
    assert found["written"] == "before the first run"
    assert found["seeds"] == [0, 1]
    assert found["runs"] == [
        *("runs/rnn-seed0", "runs/gru_bias=false-seed0"),
        *("runs/gru_bias=false-seed1", "runs/rnn-seed1"),
    ]
    for entry in given.entries:
        settings = found["cells"][entry.label]
        assert settings["model.hidden_size"] == entry.config.model.hidden_size
        assert settings["train.learning_rate"] == entry.config.train.learning_rate
        assert "data.path" not in settings
    assert found["text"]["fingerprint"] == given.corpus.fingerprint
    assert found["search"] is None
    assert found["statistics"]
    result, _ = carried_out(given, tmp_path / "c")
    assert (tmp_path / "c" / "plan.json").read_bytes() == seen
    assert result["plan"] == {
        "path": "plan.json",
        "sha256": hashlib.sha256(seen).hexdigest(),
        "written": "before the first run",
        "amends": [],
        "smallest_difference": found["smallest_difference"],
    }


def test_plan_of_a_search_has_its_ranges(text_file: Path, tmp_path: Path) -> None:
    comparison = Comparison(planned(text_file, ["rnn"], tune=True), tmp_path / "c")
    for event in comparison.run():
        if isinstance(event, Begun):
            comparison.stop()
    found = json.loads((tmp_path / "c" / "plan.json").read_text())
    assert found["search"]["seed"] == 2**32 - 1


def test_plan_of_an_earlier_version_with_a_share_of_no_dropout_goes_on(
    text_file: Path, tmp_path: Path
) -> None:
    given = planned(text_file, ["rnn"], match="time", search=3)
    agreed_plan(given, tmp_path, lambda: None)
    plan = json.loads((tmp_path / "plan.json").read_text())
    plan["search"]["without_dropout"] = 1.0
    for name in ("plan.json", ".plan.json"):
        (tmp_path / name).write_bytes(json_bytes(plan))
    assert agreed_plan(given, tmp_path, lambda: None).amends == ()
    assert json.loads((tmp_path / "plan.json").read_text()) == plan


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("seeds", [0, 1, 2], "seeds was [0, 1], now [0, 1, 2]"),
        ("match", "hidden", 'match was "parameters", now "hidden"'),
        ("cells.lstm.train.steps", 99, "cells.lstm.train.steps was 12, now 99"),
        ("search", 1, "search was null, now 1"),
    ],
)
def test_changed_plan_is_refused_with_the_change(
    finished: tuple[Path, Path, Any], tmp_path: Path, key: str, value: object, said: str
) -> None:
    text, folder, _ = finished
    copy = shutil.copytree(folder, tmp_path / "copy")
    content = json.loads((copy / "plan.json").read_text())
    *parts, last = key.split(".", 2)
    where = content
    for part in parts:
        where = where[part]
    where[last] = value
    (copy / "plan.json").write_text(json.dumps(content))
    with pytest.raises(UsageError) as error:
        carried_out(planned(text, CELLS), copy)
    assert f"{copy / 'plan.json'} was changed after it was written: {said}" in error.value.what
    shutil.copy(copy / ".plan.json", copy / "plan.json")  # as advised
    result, _ = carried_out(planned(text, CELLS), copy)
    assert result["plan"] == finished[2]["plan"]


@pytest.mark.parametrize("content", [None, b"", b"[1]", b"\xff"])
def test_lost_or_damaged_plan_is_refused(
    finished: tuple[Path, Path, Any], tmp_path: Path, content: bytes | None
) -> None:
    text, folder, _ = finished
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "plan.json").unlink()
    if content is not None:
        (copy / "plan.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"plan\.json was changed after it was written"):
        carried_out(planned(text, CELLS), copy)


def test_other_terms_than_planned_are_refused(
    finished: tuple[Path, Path, Any], tmp_path: Path
) -> None:
    text, folder, _ = finished
    copy = shutil.copytree(folder, tmp_path / "copy")
    before = (copy / "plan.json").read_bytes()
    shutil.rmtree(copy / RUNS)  # nothing but the plan knows
    (copy / RUNS).mkdir()
    with pytest.raises(UsageError, match=r"rnn\.train\.learning_rate was 0\.\d+, now 0\.3"):
        carried_out(planned(text, CELLS, "train.learning_rate=0.3"), copy)
    with pytest.raises(UsageError, match='match was "parameters", now "hidden"'):
        carried_out(planned(text, CELLS, match="hidden"), copy)
    assert (copy / "plan.json").read_bytes() == before


def test_more_seeds_amend_the_plan_and_name_the_one_before(
    finished: tuple[Path, Path, Any], tmp_path: Path
) -> None:
    text, folder, before = finished
    copy = shutil.copytree(folder, tmp_path / "copy")
    result, _ = carried_out(planned(text, ["lstm"], seeds=3), copy)
    assert result["plan"]["amends"] == [before["plan"]["sha256"]]
    assert json.loads((copy / "plan.json").read_text())["seeds"] == [0, 1, 2]


def test_comparison_of_an_earlier_version_gets_a_plan(text_file: Path, tmp_path: Path) -> None:
    given = planned(text_file, ["rnn"], seeds=1)
    assert list(Runner(given.corpus).run(planned_runs(given, tmp_path / RUNS, {"rnn": 0.01})))
    with pytest.raises(UsageError, match="cannot be reused"):
        carried_out(planned(text_file, ["rnn"], "train.learning_rate=0.3", seeds=1), tmp_path)
    assert not (tmp_path / "plan.json").exists()  # the refused command leaves no plan
    result, events = carried_out(given, tmp_path)
    begun = [event for event in events if isinstance(event, Begun)]
    assert [e.reused for e in begun if e.planned.path.parent.name == RUNS] == [True]
    assert result["plan"]["written"] == "after runs of an earlier version had begun"
    again, _ = carried_out(given, tmp_path)
    assert again["plan"] == result["plan"]


@pytest.mark.parametrize(
    "change",
    [
        {"amends": 5},
        {"seeds": "01"},
        {"cells": []},
        {"texts": 1},
        {"texts": {"a": {}}},
        {"written": 0},
    ],
    ids=str,
)
def test_plan_with_values_of_other_types_is_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    lists: dict[str, object] = {"amends": [], "seeds": [0], "statistics": []}
    content = {"charlm": "1", "written": BEFORE, "cells": {}, **lists}
    for name, whole in ((COPY, content), (FILE, content)):
        (tmp_path / name).write_text(json.dumps(whole))
    assert kept(tmp_path) == content
    for name in (COPY, FILE):
        (tmp_path / name).write_text(json.dumps({**content, **change}))
    with pytest.raises(UsageError, match=r"plan\.json is no plan of a comparison"):
        kept(tmp_path)
