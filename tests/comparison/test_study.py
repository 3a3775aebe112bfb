"""Studies of papers: the same comparison at several sizes, beside what was published."""

import io
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, words

from charlm.__main__ import run
from charlm.cli.study import terms_of
from charlm.comparison import plan as planning
from charlm.comparison.memorization import BITS, LETTERS, TRAIN_SHARE, random_text
from charlm.comparison.request import CompareRequest
from charlm.comparison.series import make_folder
from charlm.comparison.study import study_result
from charlm.config import loading
from charlm.config import studies as known_studies
from charlm.config.schema import DataConfig
from charlm.config.studies import Group, Study, groups, read_study, studies, study_folder
from charlm.reports import study as report
from charlm.text.files.sources import find

SMALL = [change for change in TINY if not change.startswith("model.hidden_size")]
SETTINGS = [
    part
    for change in [*SMALL, "train.steps=4", "train.eval_every=2", "data.split=[0.7,0.2,0.1]"]
    for part in ("--set", change)
]


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text(words(1500), encoding="utf-8")
    return "words.txt"


@pytest.mark.parametrize("name", studies())
def test_every_study_can_be_planned_at_its_sizes(name: str, text: str) -> None:
    study = read_study(name)
    for group in groups(study):
        if study.memorize:
            drawn = random_text(group.parameters, study.memorize)
            Path(text).write_text(drawn, encoding="utf-8")
        layers = loading.load(study.config, group.changes(study), {"data.path": text})
        planned = planning.plan(
            planning.request_comparison(layers),
            study.cells,
            match="parameters",
            seeds=study.seeds,
            tune=False,
            budget=group.parameters,
        )
        size = len(planned.corpus.vocabulary)
        for entry in planned.entries:
            count = planning.parameters(entry.config.model, size)
            assert count == pytest.approx(group.parameters, rel=planning.COARSE)
            for key, value in group.values.items():
                assert getattr(entry.config.model, key.removeprefix("model.")) == value


def test_study_of_memory_charges_what_is_left_of_a_random_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    more = ["--set", "train.steps=80", "--set", "train.eval_every=80", "--threads", "1"]
    given = ["compare", "--paper", "collins2017", *more, "--out", "study"]
    assert run([*given, "--json", "-q"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["unit"] == "bits per parameter"
    for group in found["groups"]:
        for row in group["rows"]:
            (bits,) = row["measured"]["values"]
            summary_path = Path("study", group["folder"], "runs", f"{row['cell']}-seed0")
            scored = ["score", str(summary_path), "--split", "train", "--checkpoint", "latest"]
            assert run([*scored, "--json"]) == 0
            score = json.loads(capsys.readouterr().out)
            known = score["characters"] * (4 - score["bits_per_character"])  # 16 letters
            assert bits == pytest.approx(known / row["parameters"], abs=1e-6)
            assert -0.5 < bits < 6
    assert run(given) == 0
    assert "higher is better" in capsys.readouterr().out
    page = Path("study", "study.html").read_text(encoding="utf-8")
    assert "n-gram</th>" not in page
    assert "5 bits per parameter" in page


def test_random_text_is_alike_every_time_and_as_long_as_asked_for() -> None:
    text = random_text(1000, 6.0)
    assert text == random_text(1000, 6.0)
    assert TRAIN_SHARE * len(text) * BITS == pytest.approx(6000, rel=0.01)
    assert set(text) == set(LETTERS)


def test_help_names_every_study(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "--help"]) == 0
    said = "".join(capsys.readouterr().out.split())
    assert all(name in said for name in studies())


def test_a_study_searches_unless_the_user_asks_for_another_search() -> None:
    study = read_study("melis2018")
    assert study.search == 8
    assert terms_of(study, CompareRequest(())).search == study.search
    assert terms_of(study, CompareRequest((), search=3)).search == 3
    assert terms_of(study, CompareRequest((), tune=True)).search is None
    assert terms_of(study, CompareRequest((), seeds=2)).seeds == 2


def test_study_is_carried_out_and_reuses_what_is_finished(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["compare", "--paper", "jozefowicz2015", "--data", text, *SETTINGS, "--seeds", "1"]
    assert run([*given, "--out", "study", "--json", "-q"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [group["parameters"] for group in found["groups"]] == [50_000, 150_000]
    assert [row["cell"] for row in found["groups"][0]["rows"]] == read_study("jozefowicz2015").cells
    for group in found["groups"]:
        assert Path("study", group["folder"], "report.html").is_file()
        assert not Path("study", group["folder"], "longer").exists()
    assert json.loads(Path("study/study.json").read_text(encoding="utf-8")) == found
    assert run([*given, "--out", "study"]) == 0
    out, err = capsys.readouterr()
    assert err.count("found finished") == 6
    assert found["finding"] in out
    assert all(sentence in out for sentence in found["sentences"])
    assert out.strip().endswith("report: study/study.html")
    assert find(DataConfig(path=str(Path.cwd()))).files == [Path(text).absolute()]


def test_a_quiet_study_prints_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (study_folder() / "collins2017.toml").read_text(encoding="utf-8")
    small = content.replace("[2_500, 10_000]", "[1_000]").replace(
        '["rnn", "lstm", "gru"]', '["rnn"]'
    )
    (tmp_path / "mine.toml").write_text(small.replace("20_000", "2"), encoding="utf-8")
    monkeypatch.setattr(known_studies, "study_folder", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run(["compare", "--paper", "mine", "--threads", "1", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    summary = json.loads(Path("runs/mine-1/study.json").read_text(encoding="utf-8"))
    assert [group["parameters"] for group in summary["groups"]] == [1_000]
    assert Path(summary["report"]).is_file()


class Stopping(io.StringIO):
    """A stderr that stops the command at the first heading of a comparison."""

    def write(self, text: str) -> int:
        if "measuring" in text:
            signal.raise_signal(signal.SIGTERM)
        return super().write(text)


def test_a_study_that_is_stopped_says_how_to_go_on(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Stopping()
    monkeypatch.setattr(sys, "stderr", said)
    given = ["compare", "--paper", "jozefowicz2015", "--data", text, *SETTINGS, "--seeds", "1"]
    assert run(given) == 143, said.getvalue()
    last = said.getvalue().strip().splitlines()[-1]
    assert last.startswith("stopped; to go on: charlm compare --paper jozefowicz2015 --data")
    assert last.endswith("--seeds 1 --out runs/jozefowicz2015-1")
    assert not Path("runs/jozefowicz2015-1/study.json").exists()


def test_a_study_in_a_folder_that_was_there_leaves_what_is_in_it_a_text(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a text of mine")
    make_folder(tmp_path)
    assert find(DataConfig(path=str(tmp_path))).files == [tmp_path / "mine.txt"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--paper", "karpaty2015"], "did you mean 'karpathy2015'"),
        (["rnn", "--paper", "karpathy2015"], "leave CELL... out"),
        (["--paper", "karpathy2015", "--match", "time"], "leave --match out"),
        (["--paper", "karpathy2015", "--config", "default"], "leave --config out"),
        (["--paper", "karpathy2015", "--set", "model.num_layers=2"], "chooses model.num_layers"),
        (["--paper", "karpathy2015", "--set", "model.hidden_size=2"], "chooses model.hidden_size"),
        (["--paper", "karpathy2015", "--set", "train.steps=x"], "train.steps"),
        (["--paper", "collins2017"], "leave --data and data.* out"),
    ],
)
def test_what_a_study_does_not_take_is_refused(
    text: str, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert run(["compare", *more, "--data", text]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("help: ") == 1
    assert not Path("runs").exists()


def test_study_of_memory_is_not_tuned_for_new_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["compare", "--paper", "collins2017", "--tune"]) == 2
    assert "leave --tune out" in capsys.readouterr().err
    assert not Path("runs").exists()


# ---- what it says -------------------------------------------------------------------------------


def outcome(**bits: float) -> dict[str, Any]:
    rows = [
        {
            "cell": cell,
            **{"hidden_size": 7, "num_layers": 1, "parameters": 9},
            **{"learning_rate": 0.01, "dropout": 0.0},
            "bits_per_character": {"mean": value, "std": None, "values": [value]},
        }
        for cell, value in bits.items()
    ]
    text = {"name": "<b>", "characters": {"train": 5}, "vocabulary_size": 3}
    return {"baselines": {"ngram": 2.5}, "rows": rows, "seeds": [0], "text": text}


STUDY = Study(
    title="Depth",
    source="A paper",
    finding="Deep is better.",
    cells=["a", "b"],
    parameters=[10, 20],
    vary={"model.num_layers": [1, 2]},
)


def found(seeds: int = 1) -> dict[str, Any]:
    bits = [{"a": 3.0, "b": 2.0}, {"a": 2.9, "b": 2.1}, {"a": 2.5, "b": 2.6}, {"a": 2.6, "b": 2.0}]
    pairs = zip(groups(STUDY), bits, strict=True)
    own = {"seeds": list(range(seeds))}
    each = [(group, outcome(**values) | own, {}) for group, values in pairs]
    return study_result("depth", STUDY, each)


def test_study_says_who_is_ahead_how_often_and_with_what() -> None:
    assert groups(STUDY)[1] == Group(10, {"model.num_layers": 2})
    assert groups(STUDY)[1].name == "10 parameters, num_layers 2"
    assert found()["sentences"] == [
        "b predicts better on average than a, by 0.575 bits per character; it is ahead in 3 of 4 "
        "comparisons.",
        "a is best with num_layers 2 (2.900) at 10 parameters; num_layers 1 (2.500) at 20 "
        "parameters.",
        "b is best with num_layers 1 (2.000) at 10 parameters; num_layers 2 (2.000) at 20 "
        "parameters.",
        "One seed each shows too little of the spread: small differences mean nothing "
        "(use --seeds 5).",
    ]


def test_study_of_three_seeds_cautions_no_one() -> None:
    first, second, third = (found(seeds)["sentences"] for seeds in (1, 2, 3))
    assert second[-1].startswith("2 seeds each show too little of the spread")
    assert third == first[:-1] == second[:-1]


def test_page_of_a_study_is_escaped_and_links_its_comparisons(tmp_path: Path) -> None:
    report.write({**found(), "command": "<script>"}, tmp_path)
    page = (tmp_path / report.PAGE).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;b&gt;" in page
    assert 'href="10-num_layers=2/report.html"' in page
