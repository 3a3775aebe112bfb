"""Texts of a few characters: presets are fitted to them, and what the user has set is not."""

import logging
from pathlib import Path
from typing import Any

import pytest
from conftest import Command, charlm, words

from charlm.common.errors import CharlmError, DataError
from charlm.config import loading, presets
from charlm.sampling.generate import Draw, Generation
from charlm.training import fitting
from charlm.training.fitting import fitted_lanes
from charlm.training.prepare import PreparedRun, prepare_run
from charlm.training.request import request_run
from charlm.training.setup import (
    begin,
    new_trainer,
    resume,
    unlike_run,
)
from charlm.training.source import choose_layers

LENGTHS = [1, 2, 3, 5, 10, 20, 50, 100, 300, 513, 1000]
SMALL = ["model.hidden_size=6", "model.embedding_size=4", "train.precision=float32"]
POEM = (
    "Tyger Tyger, burning bright,\nIn the forests of the night;\n"
    "What immortal hand or eye,\nCould frame thy fearful symmetry?\n\n"
)
KOREAN = (
    "나 보기가 역겨워\n가실 때에는\n말없이 고이 보내 드리우리다\n\n영변에 약산\n진달래꽃\n"
    "아름 따다 가실 길에 뿌리우리다\n\n가시는 걸음걸음\n놓인 그 꽃을\n"
    "사뿐히 즈려밟고 가시옵소서\n\n"
)
EMOJI = (
    "안녕 👋🏽 hello 👨‍👩‍👧 ok 🇰🇷\n"  # skin tones, joined families, flags: several code points each
)
TEXTS = [POEM, KOREAN, EMOJI]


def resolved(path: Path, *changes: str, source: str = "default", **options: Any) -> PreparedRun:
    layers = loading.load(source, [*SMALL, *changes], {"data.path": str(path)})
    return prepare_run(request_run(layers), **options)


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "short.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(path: Path, *changes: str, source: str = "default") -> DataError:
    with pytest.raises(DataError) as caught:
        new_trainer((run := resolved(path, *changes, source=source)).config, run.corpus)
    assert caught.value.advice
    return caught.value


# ---- every preset, every length -----------------------------------------------------------------


@pytest.mark.parametrize("unit", ["char", "byte", "jamo"])
@pytest.mark.parametrize("preset", presets.names())
def test_every_preset_trains_on_every_length_or_says_that_it_needs_two(
    tmp_path: Path, preset: str, unit: str
) -> None:
    offset = presets.names().index(preset)  # all 1,584 combinations take a minute and a half
    for number, length in enumerate(LENGTHS, offset):
        path = written(tmp_path, (TEXTS[number % 3] * 1000)[:length])
        changes = [f"data.unit={unit}", f"data.records={('none', 'lines')[number % 2]}"]
        if length == 1:
            assert "has a single character" in refusal(path, *changes, source=preset).what
            continue
        run = resolved(path, *changes, source=preset, keep=False)
        trainer = new_trainer(run.config, run.corpus)
        for _ in range(3):
            trainer.learner.take_step()
        options = run.config.sample.model_copy(update={"length": 5})
        model, vocabulary = trainer.learner.eval_model, run.corpus.vocabulary
        assert Generation(model, vocabulary, options, draw=Draw(num=2)).joined().indices
        if run.config.data.split[0] == 1:
            assert len(run.corpus.train) == len(run.corpus.symbols)


@pytest.mark.parametrize("length", [2, 7, 31, 33, 64, 300, 700, 5000, 9000])
def test_a_fitted_text_is_read_nearly_whole_with_many_windows(length: int) -> None:
    train = loading.load("default").resolve(length).config.train
    lanes, window = fitted_lanes(train, length, fitting.KEYS, 1)
    windows = (length - 1) // lanes // window
    assert lanes * window * windows >= 0.9 * (length - 1)
    assert lanes == 1 or windows >= fitting.WINDOWS
    assert lanes <= train.batch_size
    assert window <= train.sequence_length


def test_a_long_text_leaves_a_preset_as_it_is(tmp_path: Path) -> None:
    run = resolved(written(tmp_path, words(2000)))
    preset = loading.load("default", SMALL).resolve(10_000).config
    assert run.config.train == preset.train
    assert run.config.data.split == preset.data.split
    assert fitting.ORIGIN not in run.origins.values()


@pytest.mark.parametrize("processes", [2, 3])
def test_fitted_lanes_can_be_shared_by_processes(processes: int) -> None:
    train = loading.load("default").resolve(5000).config.train
    for symbols in (50, 500, 5000):
        assert fitted_lanes(train, symbols, fitting.KEYS, processes)[0] % processes == 0


# ---- what is said -------------------------------------------------------------------------------


def test_one_line_names_what_was_fitted_and_the_run_holds_it(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, POEM[:50])
    options = [part for change in SMALL for part in ("--set", change)]
    done = command("train", str(path), "--run", "run", "--set", "train.steps=5", *options)
    assert done.returncode == 0, done.stderr
    expected = (
        "fitted to 50 characters: 1 lane in windows of 24, not 16 in windows of 32; nothing held "
        "out; minimum_count 1, not 2 (configuration default)"
    )
    assert done.stderr.splitlines().count(expected) == 1
    config = loading.from_toml((tmp_path / "run/config.toml").read_text(), "the run")
    assert config.data.split == [1.0, 0.0, 0.0]
    assert (config.data.minimum_count, config.train.sequence_length) == (1, 24)
    again = command(
        "train", str(path), "--run", "run", "--resume", "--set", "train.steps=9", *options
    )
    assert again.returncode == 0, again.stderr
    assert "fitted" not in again.stderr
    assert "not that of" not in again.stderr
    assert "fitted to the text" in command("train", str(path), "--dry-run", *options).stdout


def test_a_run_of_a_preset_on_a_short_text_resumes_without_a_warning(tmp_path: Path) -> None:
    path = written(tmp_path, POEM[:50])
    layers = choose_layers("default", [*SMALL, "train.steps=4"], {"data.path": str(path)})
    trainer, run = begin(prepare_run(request_run(layers)), tmp_path / "run")
    list(trainer.train(run))
    run.unlock()
    resumed = resume(tmp_path / "run", ["train.steps=6"])
    assert unlike_run(layers, resumed) == ["train.steps"]


def test_a_comparison_says_once_that_it_is_fitted_or_that_it_cannot_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from charlm.comparison.plan import plan, request_comparison

    caplog.set_level(logging.INFO)
    poem = loading.load("compare", SMALL, {"data.path": str(written(tmp_path, POEM * 3))})
    planned = plan(request_comparison(poem), ["lstm", "gru"], match="hidden", seeds=1, tune=False)
    assert {entry.config.train.batch_size for entry in planned.entries} == {1}
    assert caplog.text.count("fitted to") == 1
    word = loading.load("compare", SMALL, {"data.path": str(written(tmp_path, "banana"))})
    with pytest.raises(DataError, match="too short to hold some of it out"):
        plan(request_comparison(word), ["lstm", "gru"], match="hidden", seeds=1, tune=False)


@pytest.mark.parametrize(
    ("cells", "change", "key", "value"),
    [
        (["gru", "rnn"], "model.reset_gate=before", "reset_gate", "before"),
        (["lstm", "mlstm"], "model.key_size=16", "key_size", 16),
        (["gru", "rnn"], "model.nonlinearity=relu", "nonlinearity", "relu"),
    ],
)
def test_an_option_of_any_compared_cell_may_be_set_for_all(
    tmp_path: Path, cells: list[str], change: str, key: str, value: object
) -> None:
    """Also one that the preset's own cell does not have."""
    from charlm.comparison.plan import plan, request_comparison

    data = {"data.path": str(written(tmp_path, POEM * 3))}
    requested = request_comparison(loading.load("compare", [*SMALL, change], data))
    planned = plan(requested, cells, match="hidden", seeds=1, tune=False)
    assert value in [getattr(entry.config.model, key) for entry in planned.entries]


# ---- what the user has set ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "change", "expected"),
    [
        (300, "train.sequence_length=512", "has 270 symbols, but one step of batch_size 1"),
        (50, "train.batch_size=64", "one step of batch_size 64 x sequence_length 32 reads 2,049"),
        (10, "data.split=[0.9,0.05,0.05]", "0.05 of 10 characters leaves the validation split"),
        (10, "data.split=[0.1,0.9,0.0]", "0.1 of 10 characters leaves 1 to train on"),
        (10, "data.minimum_count=9", "no character occurs 9 times in the train split"),
    ],
)
def test_a_value_that_the_user_has_set_is_refused_and_never_changed(
    tmp_path: Path, length: int, change: str, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert expected in refusal(written(tmp_path, (POEM * 9)[:length]), change).what
    assert "fitted" not in caplog.text
    own = tmp_path / "own.toml"
    section, key, value = change.replace("=", ".", 1).split(".", 2)
    own.write_text(f'preset = "default"\n[{section}]\n{key} = {value}\n')
    assert expected in refusal(tmp_path / "short.txt", source=str(own)).what


def test_what_the_user_has_set_stays_while_the_rest_is_fitted(tmp_path: Path) -> None:
    path = written(tmp_path, POEM * 2)
    lanes = resolved(path, "train.batch_size=5").config.train
    assert (lanes.batch_size, lanes.sequence_length) == (5, 21)
    window = resolved(path, "train.sequence_length=100").config.train
    assert (window.batch_size, window.sequence_length) == (1, 100)
    limited = resolved(path, "data.held_out_limit=5")
    assert limited.corpus.splits["validation"].characters == 5
    kept = resolved(path, "data.split=[0.9,0.1,0.0]", "data.minimum_count=3").config.data
    assert (kept.split, kept.minimum_count) == ([0.9, 0.1, 0.0], 3)


def test_bytes_leave_out_what_a_preset_says_of_characters(tmp_path: Path) -> None:
    data = resolved(written(tmp_path, KOREAN * 30), "data.unit=byte", source="nsmc").config.data
    assert (data.normalize, data.minimum_count) == ("none", 1)
    with pytest.raises(CharlmError, match="takes every byte as it is"):
        resolved(written(tmp_path, KOREAN), "data.unit=byte", "data.minimum_count=2")


# ---- lists and texts that hold nothing to learn from --------------------------------------------

LINES = ["data.records=lines", "data.minimum_count=1"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("anna\nanna\nanna\n", "all 3 lines are alike, so the validation split is empty"),
        ("anna", "the text is a single line, so the validation split is empty"),
        ("anna\nbob\n", "none of the 2 lines falls into the validation split"),
        ("\n\n\n", "the text has nothing to learn from: all 3 lines are empty"),
        ("\r\n", "the text has nothing to learn from: its only line is empty"),
    ],
)
@pytest.mark.parametrize("unit", ["char", "byte", "jamo"])
def test_a_list_without_enough_lines_is_refused_by_what_is_wrong(
    tmp_path: Path, text: str, expected: str, unit: str
) -> None:
    changes = [*LINES, f"data.unit={unit}", "data.split=[0.9,0.1,0.0]"]
    assert refusal(written(tmp_path, text), *changes).what == expected


@pytest.mark.parametrize("unit", ["char", "byte", "jamo"])
@pytest.mark.parametrize("text", ["anna\nanna\nanna\n", "anna", "x\n\ny"])
def test_the_preset_for_lists_takes_a_list_of_few_lines_whole(
    tmp_path: Path, text: str, unit: str
) -> None:
    run = resolved(written(tmp_path, text), f"data.unit={unit}", source="names")
    assert run.config.data.split == [1.0, 0.0, 0.0]
    new_trainer(run.config, run.corpus).learner.take_step()


def test_empty_lines_alone_are_no_list_for_a_preset(tmp_path: Path) -> None:
    assert "all 4 lines are empty" in refusal(written(tmp_path, "\n\n\n\n"), source="names").what


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", "is empty"), ("\ufeff", "is empty"), ("가", "has a single character")],
)
def test_a_text_of_less_than_two_characters_says_so(
    tmp_path: Path, text: str, expected: str
) -> None:
    assert refusal(written(tmp_path, text)).what.endswith(expected)


def test_two_characters_that_normalise_to_one_say_so(tmp_path: Path) -> None:
    path = written(tmp_path, "e\u0301")
    what = "the train split comes to 1 symbol"
    assert refusal(path, "data.normalize=nfc").what == what
    assert resolved(path).config.train.sequence_length == 1


def test_a_korean_poem_keeps_its_rare_syllables(tmp_path: Path) -> None:
    path = written(tmp_path, KOREAN)
    run = resolved(path)
    assert run.config.data.minimum_count == 1
    assert not run.corpus.train.unknown


def test_processes_share_a_short_text(tmp_path: Path) -> None:
    path = written(tmp_path, POEM * 2)
    options = [part for change in SMALL for part in ("--set", change)]
    done = charlm(
        *("train", str(path), "--processes", "2", "--set", "train.steps=2", *options), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "fitted to 240 characters: 2 lanes in windows of 26" in done.stderr
