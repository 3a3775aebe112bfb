"""Comparisons on several texts: each as if it were alone, one plan, and differences over all."""

import hashlib
import itertools
import json
import math
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import Tags, looked_at, needs_browser
from conftest import TINY, Command, begun, new_cache, words

import charlm
from charlm.api.comparing import carry_out, planned
from charlm.common.errors import CharlmError, DataError, UsageError
from charlm.comparison.execution import RUNS, Comparison, Stage
from charlm.comparison.over_texts import described, over_texts, result_over_texts
from charlm.comparison.request import CompareRequest
from charlm.comparison.runs import Advanced, Begun
from charlm.comparison.series import PartCompared, Series
from charlm.comparison.statistics import sign_test
from charlm.comparison.texts import names_of, series_of_texts
from charlm.reports import texts as report
from charlm.reports.comparison import write_figures
from charlm.runs.removal import remove

SETS = [*TINY, "model.hidden_size=100", "data.split=[0.7,0.2,0.1]"]
TEXTS = ["a.txt", "b.txt", "c.txt"]
DATA = [part for name in TEXTS for part in ("--data", name)]
CELLS = ["rnn", "gru"]


def arguments(*more: str, data: list[str] = DATA) -> list[str]:
    sets = [part for change in SETS for part in ("--set", change)]
    return ["compare", *CELLS, *data, "--seeds", "3", *sets, *more]


def write_texts(folder: Path) -> None:
    """Write three texts: b has more letters, so cells of other widths; c is another draw."""
    text = words(1500)
    more = {ord(letter): ord(letter) + 800 for letter in "abcdefghijklm"}
    lines = [line.translate(more) if at % 2 else line for at, line in enumerate(text.split("\n"))]
    for name, content in (("a", text), ("b", "\n".join(lines)), ("c", words(1400, seed=1))):
        (folder / f"{name}.txt").write_text(content, encoding="utf-8")


@pytest.fixture(scope="session")
def compared(
    tmp_path_factory: pytest.TempPathFactory, kernels_folder: Path
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Compare on three texts; return their folder, with the comparison in `out`, and result."""
    folder = tmp_path_factory.mktemp("several")
    write_texts(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARLM_CACHE", new_cache(tmp_path_factory, kernels_folder))
        patch.chdir(folder)
        torch.set_num_threads(1)
        result = charlm.compare(*CELLS, data=TEXTS, set=SETS, seeds=3, out="out")
        yield folder, result


@pytest.fixture
def copy(
    compared: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Copy that folder, and make the copy the working directory."""
    folder = shutil.copytree(compared[0], tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(folder)
    return folder


# ---- each text, and the plan --------------------------------------------------------------------


def test_each_text_is_compared_as_if_it_were_alone(
    compared: tuple[Path, dict[str, Any]], copy: Path, command: Command
) -> None:
    result = compared[1]
    done = command(*arguments("--out", "alone", "--json", "-q", data=["--data", "b.txt"]))
    assert done.returncode == 0, done.stderr
    alone, own = json.loads(done.stdout), result["texts"][1]
    assert own["name"] == "b"
    assert {**own["plan"], "smallest_difference": None} == {
        **alone["plan"],
        "smallest_difference": None,
    }
    assert own["command"] == alone["command"]
    for one, other in zip(own["rows"], alone["rows"], strict=True):
        assert one["bits_per_character"] == other["bits_per_character"]
    assert json.loads((copy / "out" / "b" / "compare.json").read_text()) == {
        key: value for key, value in own.items() if key != "name"
    }
    for name in ("plan.json", "report.html", "figures/curves-characters.png"):
        assert (copy / "out" / "b" / name).stat().st_size > 500


def test_python_and_the_command_line_do_the_same_and_reuse(
    compared: tuple[Path, dict[str, Any]], copy: Path, command: Command
) -> None:
    result = compared[1]
    done = command(*arguments("--out", "out", "--json"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("found finished") == 18 + sum(
        len(text["longer"]) for text in result["texts"]
    )
    assert "text 2 of 3: b" in done.stderr
    found = json.loads(done.stdout)
    assert found["over_texts"] == result["over_texts"]
    assert found["plan"] == result["plan"]
    assert found["report"] == "out/report.html"
    assert json.loads((copy / "out" / "compare.json").read_text()) == found
    assert found["command"].count("--data") == 3


def test_the_plan_of_all_names_the_plans_of_each(
    compared: tuple[Path, dict[str, Any]],
) -> None:
    folder, result = compared
    content = (folder / "out" / "plan.json").read_bytes()
    assert result["plan"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert result["plan"]["written"] == "before the first run"
    plan = json.loads(content)
    for text in result["texts"]:
        own = (folder / "out" / text["name"] / "plan.json").read_bytes()
        assert plan["plans"][f"{text['name']}/plan.json"] == hashlib.sha256(own).hexdigest()
        assert plan["texts"][text["name"]]["fingerprint"] == text["text"]["fingerprint"]
        for row in text["rows"]:
            assert plan["cells"][row["cell"]]["hidden_size"][text["name"]] == row["hidden_size"]
    assert any("over texts" in line for line in plan["statistics"])


def of_two(folder: Path, out: Path) -> Series:
    request = CompareRequest(
        ["rnn"], "", SETS, {"data.path": [str(folder / "a.txt"), str(folder / "c.txt")]}, seeds=2
    )
    parts = planned(request)
    assert isinstance(parts, list)
    return series_of_texts(parts, out)


def test_all_plans_are_written_before_the_first_run_and_a_stop_goes_on(tmp_path: Path) -> None:
    write_texts(tmp_path)
    out = tmp_path / "out"
    series, begun_runs, left = of_two(tmp_path, out), [], []
    for event in series.run():
        match event:
            case Begun():
                if not begun_runs:
                    before = {
                        path: path.read_bytes()
                        for path in (out / "plan.json", *out.glob("*/plan.json"))
                    }
                    assert not list(out.glob(f"*/{RUNS}/*/checkpoints/step-*"))
                begun_runs.append(event.planned.path.relative_to(out).as_posix())
                if begun_runs[-1].startswith("c/"):
                    series.stop()
            case Advanced():
                left.append(event.seconds_left)
    assert len(before) == 3
    assert begun_runs[-1] == "c/runs/rnn-seed0"  # and the second one did not begin
    assert left[0] > 0
    again, events = of_two(tmp_path, out), []
    for event in again.run():
        events.append(event)
    reused = [event.reused for event in events if isinstance(event, Begun)]
    finished = [event.part.name for event in events if isinstance(event, PartCompared)]
    assert finished == ["a", "c"]
    assert reused[:2] == [True, True]
    assert again.plan_file is not None
    assert again.plan_file.amends == ()
    assert {path: path.read_bytes() for path in before} == before


def test_the_time_left_is_that_of_all_texts(tmp_path: Path) -> None:
    write_texts(tmp_path)
    series = of_two(tmp_path, tmp_path / "out")
    last: dict[str, float] = {}
    for event in series.run():
        if isinstance(event, Advanced) and event.planned.path.parent.name == RUNS:
            last[event.planned.path.parts[-3]] = event.seconds_left
    assert last["a"] > 0  # the text c is still to come
    assert last["c"] == 0


MEASURING = "measuring a few steps of every cell"


@pytest.mark.parametrize("doing", ["text 1 of 2: a", MEASURING, "text 2 of 2: c"])
def test_a_stop_while_the_steps_are_measured_trains_nothing(tmp_path: Path, doing: str) -> None:
    write_texts(tmp_path)
    series = of_two(tmp_path, tmp_path / "out")
    for event in series.run():
        if isinstance(event, Stage) and event.doing == doing:
            series.stop()
    assert not list((tmp_path / "out").glob(f"*/{RUNS}/*"))
    assert not (tmp_path / "out" / "plan.json").exists()
    own = max((tmp_path / "out").glob("*/runs")).with_name("notes.txt")
    own.write_text("the user's")
    with pytest.raises(UsageError, match=r"holds more than|is not a run or comparison"):
        remove([tmp_path / "out"])
    assert own.read_text() == "the user's"
    own.unlink()
    remove([tmp_path / "out"])
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_interrupted_says_how_to_go_on(tmp_path: Path) -> None:
    write_texts(tmp_path)
    slow = ["--set", "train.steps=100000", "--set", "train.eval_every=50"]
    process = begun(*arguments(*slow), cwd=tmp_path)
    checkpoints = tmp_path / "runs" / "compare-1" / "a" / "runs" / "rnn-seed0" / "checkpoints"
    deadline = time.monotonic() + 120
    while not (checkpoints / "latest").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    last = err.strip().splitlines()[-1]
    assert last.startswith(
        "stopped; to go on: charlm compare rnn gru --config compare --data a.txt"
    )
    assert last.endswith("--out runs/compare-1")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Limit the files that this process writes to `size` bytes: a write beyond them fails.

    Modules are not written as bytecode, of which Python would keep the part that could be written.
    """
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_cannot_be_written_for_one_text_goes_on_with_all(tmp_path: Path) -> None:
    write_texts(tmp_path)
    series = of_two(tmp_path, tmp_path / "all")
    with files_of_at_most(1000), pytest.raises(CharlmError, match=r"cannot write .*all/a: ") as no:
        list(series.run())
    assert f"run the same command again with --out {tmp_path / 'all'}: " in no.value.advice
    assert sum(isinstance(event, PartCompared) for event in series.run()) == 2


# ---- refusals, and amendments of the plan -------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (["a.txt", "nowhere.txt"], "there is no file or folder"),
        (["a.txt", "./a.txt"], "the text ./a.txt is named twice"),
        (["a.txt", "folder/../a.txt"], "have the same content"),
        (["a.txt", "\0"], "cannot read"),
        (["a.txt", "same.txt"], "the texts a and same have the same content"),
        (["a.txt", "folder"], "the texts a and folder have the same content"),
        (["a.txt", "short.txt"], "short.txt: "),
        (["a.txt", "bytes.txt"], "bytes.txt"),
        (["a.txt", "c.txt", "--task", "copy"], "makes its own text, so --data cannot be given"),
        (["a.txt", "task:copy", "--config", "task"], "the task copy has a score of its own"),
    ],
)
def test_bad_texts_are_refused_before_there_is_a_folder(
    tmp_path: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    data: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path)
    shutil.copy("a.txt", "same.txt")
    Path("folder").mkdir()
    shutil.copy("a.txt", "folder/a.txt")
    Path("short.txt").write_text("ab")
    Path("bytes.txt").write_bytes(b"\xff\xfe\xfa" * 99)
    given = [part for path in data[:2] for part in ("--data", path)] + data[2:]
    done = command(*arguments("-q", data=given))
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("help: ") == 1
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ["nowhere.txt", "short.txt", "no, where: 1.txt"])
def test_an_error_of_one_text_names_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path)
    Path("short.txt").write_text("ab")
    for path in (name, str(tmp_path / name)):
        with pytest.raises(DataError) as refused:
            planned(CompareRequest(["rnn"], "", SETS, {"data.path": ["a.txt", path]}))
        assert refused.value.what.count(name) == 1


def test_a_paper_is_compared_on_one_text(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path)
    done = command("compare", "--paper", "karpathy2015", *DATA)
    assert done.returncode == 2
    assert "compares on one text, and --data names 3" in done.stderr
    assert not Path("runs").exists()


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("changed", "the text c is not the one that it was planned for"),
        ("removed", "was planned with the text c, which is missing"),
        ("another", "was planned with the text c, which is missing"),
        ("plan", 'match was "parameters", now "hidden"'),
        ("settings", "train.learning_rate was"),
        ("match", 'match was "parameters", now "hidden"'),
        ("further", 'match was "parameters", now "hidden"'),
    ],
)
def test_other_texts_or_terms_than_planned_are_refused(
    copy: Path, command: Command, change: str, said: str
) -> None:
    data, more = DATA, []
    match change:
        case "changed":
            (copy / "c.txt").write_text(words(1400, seed=2))
        case "removed":
            data = DATA[:4]
        case "another":
            (copy / "d.txt").write_text(words(1300, seed=3))
            data = [*DATA[:4], "--data", "d.txt"]
        case "plan":
            plan = json.loads(Path("out/plan.json").read_text())
            Path("out/plan.json").write_text(json.dumps({**plan, "match": "hidden"}))
        case "settings":
            more = ["--set", "train.learning_rate=0.3"]
        case "match":
            more = ["--match", "hidden"]
        case "further":
            (copy / "d.txt").write_text(words(1300, seed=3))
            more, data = ["--match", "hidden"], ["--data", "d.txt", *DATA]
    before = snapshot(copy / "out")
    done = command(*arguments(*more, "--out", "out", "-q", data=data))
    assert done.returncode == 2
    assert said in done.stderr
    after = snapshot(copy / "out")
    measured = [path for path in after if "/measured/" in path]
    assert {k: v for k, v in after.items() if k not in measured} == {
        k: v for k, v in before.items() if k not in measured
    }


def test_a_text_or_seed_more_amends_the_plan(
    compared: tuple[Path, dict[str, Any]], copy: Path, command: Command
) -> None:
    first = compared[1]["plan"]["sha256"]
    (copy / "d.txt").write_text(words(1300, seed=3))
    more = arguments("--out", "out", "--json", "-q", data=[*DATA, "--data", "d.txt"])
    done = command(*more)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["plan"]["amends"] == [first]
    assert [text["name"] for text in found["texts"]] == ["a", "b", "c", "d"]
    assert [text["plan"]["amends"] for text in found["texts"]] == [[], [], [], []]
    done = command(*more, "--seeds", "4")
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert again["plan"]["amends"] == [first, found["plan"]["sha256"]]
    assert again["seeds"] == [0, 1, 2, 3]


def test_folder_with_runs_on_none_of_the_texts_is_refused(tmp_path: Path) -> None:
    write_texts(tmp_path)
    out = tmp_path / "out"
    of_two(tmp_path, out)
    (out / "notes").mkdir()  # no runs: it is left alone
    (out / "b" / "runs" / "rnn-seed0").mkdir(parents=True)
    with pytest.raises(UsageError) as refused:
        of_two(tmp_path, out)
    assert refused.value.what == f"{out} holds b, which is none of these texts"
    (out / "b" / "runs" / "rnn-seed0").rmdir()
    assert [part.name for part in of_two(tmp_path, out).parts] == ["a", "c"]


def test_a_text_keeps_its_name_beside_a_further_one(copy: Path, command: Command) -> None:
    Path("other").mkdir()
    (copy / "other" / "a.txt").write_text(words(1300, seed=3))
    shutil.copy("c.txt", "renamed.txt")
    Path("out/.ipynb_checkpoints").mkdir()
    given = ["a.txt", "b.txt", "renamed.txt", "other/a.txt"]
    data = [part for path in given for part in ("--data", path)]
    done = command(*arguments("--out", "out", "--json", "-q", data=data))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [text["name"] for text in found["texts"]] == ["a", "b", "c", "other-a.txt"]


def test_runs_that_a_signal_ended_are_still_expected(copy: Path, tmp_path: Path) -> None:
    series = of_two(copy, tmp_path / "out")
    for event in series.run():
        if isinstance(event, Advanced) and event.planned.path.parent.name == RUNS:
            series.stop()
    (stopped,) = (tmp_path / "out").glob(f"a/{RUNS}/*/summary.json")
    assert json.loads(stopped.read_text())["stopped_by"] == "signal"
    again = of_two(copy, tmp_path / "out")
    counted = [
        event.doing
        for event in again.run()
        if isinstance(event, Stage) and "runs in all" in event.doing and not again.stop()
    ]
    assert counted[0].startswith("4 runs in all")


def test_the_folder_of_one_text_is_not_that_of_several(copy: Path, command: Command) -> None:
    one = ["--data", "a.txt"]
    assert command(*arguments("--out", "one", "-q", "--seeds", "1", data=one)).returncode == 0
    done = command(*arguments("--out", "one", "-q"))
    assert done.returncode == 2
    assert "one exists and is no comparison of several texts" in done.stderr
    done = command(*arguments("--out", "out", "-q", data=one))
    assert done.returncode == 2
    assert "out exists and is no comparison" in done.stderr


def test_a_comparison_of_several_texts_is_removed_whole(copy: Path, command: Command) -> None:
    (copy / "out" / "notes").mkdir()
    done = command("runs", "--rm", "out")
    assert done.returncode == 2
    assert "out holds more than comparisons: notes" in done.stderr
    (copy / "out" / "notes").rmdir()
    assert command("runs", "--rm", "out").returncode == 0
    assert not (copy / "out").exists()


@pytest.mark.parametrize("name", ["b", "figures", "b/runs"])
def test_nothing_is_written_through_a_link(copy: Path, command: Command, name: str) -> None:
    elsewhere = copy / "elsewhere"
    (copy / "out" / name).rename(elsewhere)
    (copy / "out" / name).symlink_to(elsewhere)
    before = snapshot(elsewhere)
    done = command(*arguments("--out", "out", "-q"))
    assert done.returncode == 2
    assert "is a symbolic link" in done.stderr
    assert snapshot(elsewhere) == before


# ---- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x/a.txt", "y/b.md"], ["a", "b"]),
        (["x/a.txt", "x/a.md"], ["a.txt", "a.md"]),
        (["x/a.txt", "y/a.txt", "c"], ["x-a.txt", "y-a.txt", "c"]),
        (["x/A.txt", "x/a.md"], ["A.txt", "a.md"]),
        (["p/x/a.txt", "q/x/a.txt"], ["x-a.txt", "x-a.txt-2"]),
        (["runs", "x/figures.txt"], ["{here}-runs", "figures.txt"]),
        (["-", "/dev/fd/63"], ["stdin", "stdin-2"]),
        (["my text.txt", "python:standard-library"], ["my_text", "python_standard-library"]),
        (["x/../a.txt", "a.txt"], ["{here}-a.txt", "{here}-a.txt-2"]),
        (["...", "\u00e9t\u00e9.txt"], ["text", "\u00e9t\u00e9"]),
    ],
)
def test_names_are_safe_and_differ(paths: list[str], names: list[str]) -> None:
    expected = [name.format(here=Path.cwd().name) for name in names]
    assert names_of(paths) == expected


# ---- the statistics -----------------------------------------------------------------------------


def t_quantile(df: int) -> float:
    """Student's t at 0.975, by integrating its density: independent of any table."""
    points = np.linspace(0.0, 400.0, 4_000_001)
    density = (1 + points**2 / df) ** (-(df + 1) / 2)
    density *= math.gamma((df + 1) / 2) / (math.sqrt(df * math.pi) * math.gamma(df / 2))
    steps = (density[1:] + density[:-1]) / 2 * (points[1] - points[0])
    return float(np.interp(0.475, np.cumsum(steps), points[1:]))


def test_differences_over_texts_are_those_recomputed_from_the_runs(
    compared: tuple[Path, dict[str, Any]],
) -> None:
    folder, result = compared
    means = {}
    for cell, text in itertools.product(CELLS, "abc"):
        runs = [folder / "out" / text / "runs" / f"{cell}-seed{seed}" for seed in range(3)]
        read = [json.loads((run / "summary.json").read_text()) for run in runs]
        means[cell, text] = np.mean([one["best"]["bits_per_character"] for one in read])
    gaps = np.array([means["rnn", text] - means["gru", text] for text in "abc"])
    (pair,) = result["over_texts"]["differences"]
    half = t_quantile(2) * gaps.std(ddof=1) / math.sqrt(3)
    assert pair["mean"] == pytest.approx(gaps.mean())
    assert pair["low"] == pytest.approx(gaps.mean() - half, abs=1e-3 * half)
    assert pair["high"] == pytest.approx(gaps.mean() + half, abs=1e-3 * half)
    assert pair["shown"] == (abs(gaps.mean()) > half)
    assert pair["ahead"] == [int((gaps < 0).sum()), int((gaps > 0).sum())]
    assert pair["sign_test"] is None
    logs = np.log([means["rnn", text] / means["gru", text] for text in "abc"])
    assert pair["ratio"]["mean"] == pytest.approx(math.exp(logs.mean()))
    far = logs.mean() + t_quantile(2) * logs.std(ddof=1) / math.sqrt(3)
    assert pair["ratio"]["high"] == pytest.approx(math.exp(far), rel=1e-4)
    for own, text in zip(pair["by_text"], result["texts"], strict=True):
        assert own["name"] == text["name"]
        assert own["mean"] == text["differences"][0]["mean"]
        assert (own["low"], own["high"]) == tuple(
            text["differences"][0][key] for key in ("low", "high")
        )
    for row, cell in zip(result["over_texts"]["rows"], CELLS, strict=True):
        expected = [means[cell, text] for text in "abc"]
        assert row["bits_per_character"]["values"] == pytest.approx(expected)
        assert row["hidden_sizes"] == [
            one["hidden_size"] for text in result["texts"] for one in text["rows"]
            if one["cell"] == cell
        ]  # fmt: skip


@pytest.mark.parametrize(("ahead", "of"), [(0, 6), (6, 6), (1, 7), (4, 8), (9, 12)])
def test_sign_test_counts_the_patterns_that_are_as_uneven(ahead: int, of: int) -> None:
    patterns = [sum(signs) for signs in itertools.product((0, 1), repeat=of)]
    uneven = [abs(count - of / 2) >= abs(ahead - of / 2) for count in patterns]
    assert sign_test(ahead, of) == pytest.approx(np.mean(uneven))


def outcome(**bits: float) -> dict[str, Any]:
    """Return the part of a result on one text that is read."""
    rows = [
        {
            "cell": cell,
            **{"hidden_size": 8, "parameters": 99, "num_layers": 1},
            "bits_per_character": {"mean": value, "std": None, "values": [value]},
        }
        for cell, value in bits.items()
    ]
    differences = [
        {"cells": [a, b], "mean": bits[a] - bits[b], "low": None, "high": None, "shown": False}
        for a, b in itertools.combinations(bits, 2)
    ]
    return {"rows": rows, "differences": differences}


def test_two_texts_are_too_few_to_generalise() -> None:
    found = over_texts({"x": outcome(rnn=2.0, gru=1.9), "y": outcome(rnn=3.0, gru=2.7)})
    (pair,) = found["differences"]
    assert (pair["low"], pair["high"], pair["shown"], pair["sign_test"]) == (
        None,
        None,
        False,
        None,
    )
    assert found["sentences"] == [
        "Over 2 texts, gru has the lowest mean: 2.300 bits per character.",
        "Over the texts, gru minus rnn is -0.200 bits per character; geometric mean of the ratios "
        "of bits: 0.925; gru is ahead on 2 of 2 texts, and 2 texts are too few to generalise.",
        "The order is the same on every text: gru, rnn.",
    ]


def test_a_difference_is_shown_when_the_texts_agree() -> None:
    bits = {"a": (2.0, 1.9), "b": (3.0, 2.91), "c": (1.0, 0.89)}
    found = over_texts({name: outcome(rnn=x, gru=y) for name, (x, y) in bits.items()})
    assert found["sentences"][0] == "Over 3 texts, gru predicts best: 1.900 bits per character."
    assert found["sentences"][1] == (
        "gru predicts better than rnn over the texts: gru minus rnn is -0.100 bits per character "
        "(95 % over texts: -0.125 to -0.075); geometric mean of the ratios of bits: 0.936 (0.837 "
        "to 1.047); gru is ahead on 3 of 3 texts."
    )


def test_texts_that_disagree_show_no_difference_and_name_the_orders() -> None:
    bits = {"a": (2.0, 1.9), "b": (3.0, 3.2), "c": (1.0, 1.1)}
    found = over_texts({name: outcome(rnn=x, gru=y) for name, (x, y) in bits.items()})
    assert found["sentences"][1].startswith(
        "No difference in bits that 3 texts can show: rnn minus gru is -0.067 bits"
    )
    assert found["sentences"][1].endswith("rnn is ahead on 2 of 3 texts.")
    assert found["sentences"][2] == "The order differs by text: gru, rnn on a; rnn, gru on b and c."


def test_six_texts_have_a_sign_test_and_a_tie_takes_no_side() -> None:
    texts = {f"t{at}": outcome(rnn=2.0 + at, gru=1.9 + 1.01 * at) for at in range(6)}
    (pair,) = over_texts(texts)["differences"]
    assert (pair["ahead"], pair["sign_test"]) == ([0, 6], 2 / 2**6)
    assert "gru is ahead on 6 of 6 texts (sign test: p = 0.031)" in pair["sentence"]
    (pair,) = over_texts({**texts, "tie": outcome(rnn=1.0, gru=1.0)})["differences"]
    assert (pair["ahead"], pair["sign_test"]) == ([0, 6], 2 / 2**6)
    (pair,) = over_texts({"zero": outcome(rnn=0.0, gru=1.0), **texts})["differences"]
    assert pair["ratio"] is None


def test_a_tie_has_no_leader_in_the_result_or_the_figure(tmp_path: Path) -> None:
    bits = {"a": (2.0, 1.9), "b": (3.0, 3.2), "c": (1.0, 1.0)}
    result = {
        "over_texts": over_texts({name: outcome(rnn=x, gru=y) for name, (x, y) in bits.items()})
    }
    (pair,) = described(result)
    assert (pair["leader"], pair["lead"]) == (None, "each is ahead on 1 of 3 texts")
    assert "each is ahead on 1 of 3 texts" in pair["sentence"]
    assert report.pictures(result)[0].title == "rnn and gru: each is ahead on 1 of 3 texts"
    bits["d"] = (1.0, 1.1)
    (pair,) = over_texts({name: outcome(rnn=x, gru=y) for name, (x, y) in bits.items()})[
        "differences"
    ]
    assert (pair["leader"], pair["lead"]) == ("rnn", "rnn is ahead on 2 of 4 texts")


def test_figures_of_cells_with_many_settings_have_short_and_different_names(
    tmp_path: Path,
) -> None:
    long = "gru:" + ",".join(f"train.learning_rate=0.{'0' * at}1" for at in range(9))
    bits = {"rnn": 2.0, long: 1.9, f"{long},bias=false": 1.8}
    result = {"over_texts": over_texts({name: outcome(**bits) for name in "ab"})}
    drawn = report.pictures(result)
    assert len({picture.name for picture in drawn}) == 3
    write_figures(drawn, tmp_path)
    assert all(len(path.name) < 100 for path in (tmp_path / "figures").iterdir())


def test_one_cell_has_no_order_over_texts() -> None:
    found = over_texts({"x": outcome(gru=2.0), "y": outcome(gru=3.0)})
    assert (found["orders"], found["differences"]) == ({"x": ["gru"], "y": ["gru"]}, [])
    assert found["sentences"] == [
        "Over 2 texts, gru has the lowest mean: 2.500 bits per character."
    ]


def test_of_many_cells_the_differences_to_the_best_are_described() -> None:
    bits = {"rnn": 2.0, "gru": 1.8, "lstm": 1.9, "mingru": 2.1}
    texts = {name: outcome(**{c: b + at for c, b in bits.items()}) for at, name in enumerate("ab")}
    found = over_texts(texts)
    assert len(found["differences"]) == 6
    assert found["described"] == [["rnn", "gru"], ["gru", "lstm"], ["gru", "mingru"]]


def test_settings_that_were_fitted_to_a_text_are_named(
    compared: tuple[Path, dict[str, Any]],
) -> None:
    texts = {text["name"]: text for text in compared[1]["texts"]}
    found = result_over_texts(texts, {}, "")
    assert not any("differs by text" in note for note in found["notes"])
    config = {
        cell: toml.replace("batch_size = 3", "batch_size = 2").replace("steps = 12", "steps = 9")
        for cell, toml in texts["b"]["config"].items()
    }
    fitted = {**texts, "b": {**texts["b"], "config": config}}
    note = "train.batch_size differs by text: 3 on a, 2 on b, 3 on c"
    found = result_over_texts(fitted, {}, "")
    assert note in found["notes"]
    assert "train.steps differs by text: 12 on a, 9 on b, 12 on c" in found["notes"]
    timed = {name: {**text, "match": "time"} for name, text in fitted.items()}
    budget = {"rnn": config["rnn"].replace("\nseconds = 0.0", "\nseconds = 60.0")}
    limited = {**fitted, "b": {**fitted["b"], "config": budget}}
    for texts_in_time, more in ((timed, []), (limited, ["train.seconds"])):
        notes = result_over_texts(texts_in_time, {}, "")["notes"]
        found_keys = [one.partition(" ")[0] for one in notes if "differs by text" in one]
        assert sorted(found_keys) == ["train.batch_size", *more]


def test_settings_that_each_text_has_searched_are_not_named(
    compared: tuple[Path, dict[str, Any]],
) -> None:
    texts = {text["name"]: text for text in compared[1]["texts"]}
    config = {
        cell: re.sub(r"(?m)^(learning_rate|dropout|clip_norm) = .*", r"\1 = 0.25", toml)
        for cell, toml in texts["b"]["config"].items()
    }
    named = {}
    for tuned in (False, True):
        searched = {**texts, "b": {**texts["b"], "config": config, "tuned": tuned}}
        notes = result_over_texts(searched, {}, "")["notes"]
        named[tuned] = {one.partition(" ")[0] for one in notes if "differs by text" in one}
    assert named[False] == {"model.dropout", "train.learning_rate", "train.clip_norm"}
    assert named[True] == {"train.clip_norm"}


def test_claims_hold_if_they_hold_on_each_text(compared: tuple[Path, dict[str, Any]]) -> None:
    texts = {text["name"]: text for text in compared[1]["texts"]}
    claim = {"claim": "x", "holds": True, "verdict": "holds", "evidence": "."}
    fails = {**claim, "holds": False, "verdict": "does not hold"}
    absent = {
        "claim": "y",
        "holds": None,
        "verdict": "not shown",
        "evidence": "z did not take part",
    }

    def judged(*claims: dict[str, Any]) -> list[dict[str, Any]]:
        changed = {
            name: {**text, "claims": [own, absent]}
            for (name, text), own in zip(texts.items(), claims, strict=True)
        }
        found: list[dict[str, Any]] = result_over_texts(changed, {}, "")["claims"]
        return found

    assert judged(claim, claim, claim)[0]["holds"] is True
    assert judged(fails, fails, fails)[0]["holds"] is False
    mixed, other = judged(claim, fails, claim)
    assert mixed["holds"] is None
    assert mixed["evidence"] == "holds on a and c; does not hold on b"
    assert other["evidence"] == "z did not take part"


# ---- terminal and page ---------------------------------------------------------------------------


def test_terminal_shows_every_text_and_the_differences(
    compared: tuple[Path, dict[str, Any]], copy: Path, command: Command
) -> None:
    result = compared[1]
    done = command(*arguments("--out", "out"))
    assert done.returncode == 0, done.stderr
    assert all(sentence in done.stdout for sentence in result["verdict"])
    assert "The widths differ, as the texts have different vocabularies: " in done.stdout
    for text in result["texts"]:
        for row in text["rows"]:
            assert f"{row['bits_per_character']['mean']:.3f} ± " in done.stdout
    (pair,) = result["over_texts"]["differences"]
    shown = f"{pair['mean']:+.3f} ({pair['low']:+.3f} to {pair['high']:+.3f})"
    assert f"all 3 texts  {shown}" in done.stdout
    assert result["plan"]["sha256"] in done.stdout
    assert done.stdout.strip().endswith("report: out/report.html")


def test_page_links_each_text_and_has_its_numbers(compared: tuple[Path, dict[str, Any]]) -> None:
    folder, result = compared
    text = (folder / "out" / "report.html").read_text(encoding="utf-8")
    tags = Tags(text)
    assert not tags.mistakes
    assert not tags.stack
    links = [attributes["href"] for tag, attributes in tags.tags if tag == "a"]
    assert links == ["a/report.html", "b/report.html", "c/report.html"]
    assert all((folder / "out" / link).is_file() for link in links if link)
    for one in result["texts"]:
        for pair in one["differences"]:
            assert f"{pair['mean']:+.3f}" in text
    for row in result["over_texts"]["rows"]:
        assert all(f"{width} units" in text for width in row["hidden_sizes"])
    assert result["plan"]["sha256"] in text
    assert (folder / "out" / "figures" / "difference-rnn-gru.png").is_file()


def test_text_of_the_page_is_escaped(compared: tuple[Path, dict[str, Any]]) -> None:
    evil = "<script>alert(1)</script>\x1b[31m"
    texts = [{**text, "name": evil} for text in compared[1]["texts"]]
    changed = {**compared[1], "texts": texts, "command": evil, "verdict": [evil], "notes": [evil]}
    text = report.html(changed, [])
    assert "<script" not in text
    assert "\x1b" not in text


@needs_browser
@pytest.mark.parametrize("width", [390, 1200])
def test_page_fits_a_phone_and_a_desktop(
    compared: tuple[Path, dict[str, Any]], tmp_path: Path, width: int
) -> None:
    found = looked_at(compared[0] / "out" / "report.html", tmp_path, width)
    assert found["overflow"] <= 0
    assert found["twice"] == []
    assert [figure["name"] for figure in found["figures"]] == ["difference-rnn-gru"]
    assert all(figure["ink"] > 5 and figure["letters"] > 6 for figure in found["figures"])


def test_a_comparison_needs_nobody_who_watches_and_can_be_stopped(tmp_path: Path) -> None:
    write_texts(tmp_path)
    data = {"data.path": str(tmp_path / "a.txt")}
    made = planned(CompareRequest(["rnn"], "", SETS, data, seeds=1))
    watched: list[Comparison | Series] = []

    def watch(comparison: Comparison | Series) -> AbstractContextManager[None]:
        watched.append(comparison)
        comparison.stop()
        return nullcontext()

    assert carry_out(made, tmp_path / "out", "charlm compare rnn", watch) is None
    assert [one.path for one in watched] == [tmp_path / "out"]
    assert not (tmp_path / "out" / "compare.json").exists()
