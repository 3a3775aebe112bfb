"""charlm from Python: what a notebook calls."""

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from conftest import TINY, words

import charlm
from charlm.common.errors import CharlmError, ConfigError, DataError, DivergedError, UsageError


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_train_can_be_called_again_and_again() -> None:
    """The module of that name hid the function once it was imported."""
    runs = [charlm.train("hello", set=["train.steps=2"])["run"] for _ in range(2)]
    assert runs == ["runs/hello-1", "runs/hello-2"]


def test_train_takes_a_text_and_load_gives_what_was_trained(text_file: Path) -> None:
    by_data = charlm.train(data=text_file, set=TINY, run="one")
    by_source = charlm.train(text_file, set=TINY, run="two")
    several = charlm.train("default", data=[text_file, str(text_file)], set=TINY, run="three")
    assert by_data["best"] == by_source["best"] != several["best"]
    model = charlm.load("one")
    text = model.sample("the ", seed=3, length=20, temperature=0.5)
    assert text == model.sample("the ", seed=3, length=20, temperature=0.5)
    assert "".join(model.stream("the ", seed=3, length=20, temperature=0.5)) == text
    found = model.surprisals("the quick brown fox")
    assert found.score == model.score("the quick brown fox")
    assert found.surprisals.shape == found.symbols.shape == (19,)


def test_the_command_line_and_the_interface_train_the_same(text_file: Path) -> None:
    from charlm.__main__ import run

    settings = [part for change in TINY for part in ("--set", change)]
    assert run(["train", str(text_file), *settings, "--run", "typed", "-q"]) == 0
    called = charlm.train(text_file, set=TINY)["best"]
    assert repr(charlm.load("typed")).startswith("<charlm.Loaded: lstm, ")
    assert charlm.load("typed").checkpoint.state.progress["best"] == called


def test_errors_are_charlms_own_and_say_what_to_do(text_file: Path) -> None:
    charlm.train(text_file, set=TINY, run="mine")
    model = charlm.load("mine")
    wrong = [
        (UsageError, "top_p = 0 should be greater than 0", lambda: model.sample(top_p=0)),
        (UsageError, "no option 'temprature'", lambda: model.sample(temprature=1)),
        (UsageError, "num = 3, but this writes one text", lambda: model.sample(num=3)),
        (UsageError, "num = 3, but this writes one text", lambda: model.stream(num=3)),
        (UsageError, "best_of = 0 is no number", lambda: charlm.sample(model, best_of=0)),
        (UsageError, "no page in 'fr'", lambda: charlm.export(to="html", language="fr")),
        (DataError, "is empty", lambda: model.score("")),
        (UsageError, "there is no run", lambda: charlm.load("nowhere")),
        (UsageError, "no device 'nope'", lambda: charlm.load("mine", device="nope")),
        (UsageError, "not available", lambda: charlm.load("mine", device="cuda:77")),
        (ConfigError, "did you mean 'hello'", lambda: charlm.train("helo")),
        (ConfigError, "did you mean 'steps'", lambda: charlm.train(set=["train.setps=3"])),
        (DataError, "no file or folder", lambda: charlm.train(data="nothing.txt")),
        (UsageError, "two texts are named", lambda: charlm.train(text_file, data="b.txt")),
    ]
    for kind, what, call in wrong:
        with pytest.raises(kind, match=what) as caught:
            call()
        assert isinstance(caught.value, charlm.CharlmError)
        assert caught.value.advice
    assert issubclass(UsageError, CharlmError)


def test_errors_are_worded_for_python_in_a_traceback(text_file: Path) -> None:
    charlm.train(text_file, set=TINY, run="mine")
    Path("odd.txt").write_bytes(b"\x00\xff\x80")
    for call, wanted in (
        (lambda: charlm.load("mine", which="x"), "which x is no checkpoint\n  name best, latest"),
        (lambda: charlm.load("mine", which=5), "name one: which=STEP"),
        (lambda: charlm.train(data="no.txt"), "put the text there, or name another: data=PATH"),
        (lambda: charlm.train(data="odd.txt"), "set='data.encoding="),
        (lambda: charlm.sample("mine", clamps="x"), "write it as in clamps 0.17=2.5"),
        (lambda: charlm.train(text_file, run="mine"), "resume run mine"),
        (lambda: charlm.compare("rnn:hidden_size=3"), "or use match hidden"),
    ):
        with pytest.raises(charlm.CharlmError) as caught:
            call()
        assert wanted in str(caught.value)
        assert "--" not in str(caught.value)
        assert "--" in caught.value.what + caught.value.advice


def test_training_leaves_the_threads_as_they_were(text_file: Path) -> None:
    import torch

    torch.set_num_threads(2)
    charlm.train(text_file, set=[*TINY, "train.threads=1"])
    charlm.load().sample(length=3)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("run", ["first", None])
def test_a_loaded_model_finds_its_files_from_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("words.txt").write_text(words(1500), encoding="utf-8")
    charlm.train("words.txt", set=TINY, run="runs/first")
    loaded = charlm.load(f"runs/{run}" if run else None)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert loaded.checkpoint.training()


CHECKED = """
[mypy]
strict = True
[mypy-torch.*,numpy.*,matplotlib.*,pydantic.*,typer.*,rich.*,jinja2.*,tqdm.*,safetensors.*]
follow_imports = skip
"""
"""A configuration of mypy: of what charlm imports it reads nothing, which takes a third of the
time."""


def test_the_interface_is_typed_and_costs_nothing_to_import(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    assert (files("charlm") / "py.typed").is_file()
    program = tmp_path / "program.py"
    program.write_text(
        "import charlm\n"
        'best = charlm.train(data="my.txt")["steps"] + 1\n'
        "text: str = charlm.load().sample('a', length=3)\n"
        "bits: float = charlm.load().score(text).bits_per_character\n"
        "charlm.train(data=3)\n"
    )
    (tmp_path / "mypy.ini").write_text(CHECKED)
    cache = str(pytestconfig.cache.mkdir("mypy"))  # the next run takes it up
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--no-error-summary", "--config-file", "mypy.ini"),
            *("--cache-dir", cache, str(program)),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert checked.stdout.count("error:") == 1, checked.stdout
    assert "program.py:5" in checked.stdout
    light = "import sys, charlm; sys.exit(any(m in sys.modules for m in ('torch', 'pydantic')))"
    assert subprocess.run([sys.executable, "-c", light], check=False).returncode == 0


def test_texts_are_written_as_the_command_writes_them(
    text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from charlm.__main__ import run

    charlm.train(text_file, set=TINY, run="one")
    charlm.train(text_file, set=[*TINY, "train.seed=5"], run="two")
    capsys.readouterr()
    options = ["--seed", "3", "--length", "20", "--num", "2", "--best-of", "2", "--adapt"]
    assert run(["sample", "one", "--prompt", "the ", "--with", "two", *options, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    writing = charlm.sample(
        "one", "the ", seed=3, length=20, num=2, best_of=2, with_=["two"], adapt=True
    )
    assert writing.report() == printed
    assert [one["text"] for one in printed["samples"]] == [
        text.removeprefix("the ") for text in writing.texts
    ]
    assert set(printed["mixture"]) == {"one", "two"}
    alone = charlm.sample("one", "the ", seed=3, length=20).texts
    assert alone == ["the " + charlm.load("one").sample("the ", seed=3, length=20)]
    with pytest.raises(UsageError, match="one at a time"):
        charlm.sample("one", with_=["two"], clamps=["0.1=1"])
    with pytest.raises(UsageError, match="no option"):
        charlm.sample("one", temprature=1)


def test_a_text_is_scored_as_the_command_scores_it(
    text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from charlm.__main__ import run

    charlm.train(text_file, set=TINY, run="one")
    capsys.readouterr()
    assert run(["score", "one", str(text_file), "--with", "ngram", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert charlm.score("one", text_file, with_=["ngram"]).report() == printed
    loaded = charlm.load("one")
    windows = charlm.score(loaded, split="val", window=16, html="page.html")
    assert windows.score != charlm.score(loaded, split="val").score
    assert [path.name for path in windows.pages] == ["page.html"]
    assert Path("page.html").is_file()
    for call in (
        lambda: charlm.score(loaded),
        lambda: charlm.score(loaded, text_file, split="val"),
        lambda: charlm.score(loaded, split="held out"),
        lambda: charlm.score(loaded, split="val", encoding="cp1251"),
        lambda: charlm.score(loaded, text_file, encoding="nope"),
        lambda: charlm.score(loaded, split="val", which="latest"),
        lambda: charlm.sample(loaded, device="cpu"),
        lambda: charlm.score(loaded, split="val", windw=16),
        lambda: charlm.compare("rnn", "gru", seed=3),
        lambda: charlm.compare("rnn", "gruu"),
        lambda: charlm.compare("rnn", "gru", data=text_file, seeds=0),
        lambda: charlm.score(loaded, text_file, html=text_file),
        lambda: charlm.compare("rnn", "gru", data=text_file, out=text_file),
        lambda: charlm.score(loaded, split="val", adapt=True, window=4),
        lambda: charlm.score(loaded, split="train", adapt=True),
        lambda: charlm.score(loaded, split="val", window=-1),
        lambda: charlm.score(loaded, split="val", with_="nowhere"),
        lambda: charlm.sample(loaded, num=0),
        lambda: charlm.sample(loaded, seed=-1),
        lambda: charlm.sample(loaded, novel=True),
        lambda: charlm.sample(loaded, clamps="0.1=2", precision="int8"),
    ):
        with pytest.raises(UsageError) as refused:
            call()
        assert refused.value.advice
    with pytest.raises(UsageError, match="there is no folder nofolder"):  # before it is scored
        charlm.score(loaded, "no.txt", html="nofolder/page.html")
    assert text_file.read_text(encoding="utf-8") == words(1500)
    assert not list(Path("runs").glob("compare*"))
    Path("old.txt").write_bytes("the \u0444 fox".encode("cp1251"))
    by_name = charlm.score("one", "old.txt", which=6, device="cpu", encoding="cp1251").score
    assert by_name.characters == 9
    assert by_name == charlm.load("one", which=6).score("the \u0444 fox")
    assert by_name != loaded.score("the \u0444 fox")
    first = charlm.sample("one", "the ", seed=1, length=20, which=6, data=text_file).texts
    assert first == charlm.sample(charlm.load("one", which=6), "the ", seed=1, length=20).texts
    held = charlm.sample(loaded, clamps="0.1=2", length=3).report()
    assert (held["backend"], held["precision"]) == ("torch", "float32")
    step = loaded.checkpoint.step
    assert charlm.load("one", which=step).checkpoint.step == step


def test_a_stopped_run_is_resumed_to_the_same_bits(text_file: Path) -> None:
    whole = charlm.train(text_file, set=TINY, run="whole")
    charlm.train(text_file, set=[*TINY, "train.steps=3"], run="part")
    resumed = charlm.train(set=[f"train.steps={whole['steps']}"], run="part", resume=True)
    assert resumed["best"] == whole["best"]
    weights = [charlm.load(run, which="latest").model.state_dict() for run in ("whole", "part")]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
    with pytest.raises(UsageError, match="there is no run"):
        charlm.train(run="nowhere", resume=True)


def test_a_run_that_goes_on_otherwise_says_so(
    text_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    charlm.train(text_file, set=TINY, run="mine")
    more = ["train.steps=14", "train.threads=2"]
    with caplog.at_level("WARNING", "charlm.api"):
        assert charlm.train(run="mine", resume=True, set=more)["steps"] == 14
    (said,) = [one.getMessage() for one in caplog.records if one.name == "charlm.api.training"]
    assert said == "not as when the run stopped: threads 1 -> 2"


def test_a_run_that_fails_is_free_for_the_next_call(text_file: Path) -> None:
    hot = [*TINY, "train.learning_rate=10", "train.clip_norm=0", "train.weight_decay=0"]
    hot += ["train.steps=3000", "model.cell=rnn", "model.nonlinearity=relu", "model.num_layers=4"]
    for resume in (False, True):  # where it would be refused if it were still locked
        with pytest.raises(DivergedError, match="training diverged at step"):
            charlm.train(None if resume else text_file, set=hot, run="mine", resume=resume)
