"""Commands that people type or mistype first, and read: each was wrong once."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY, charlm, words

from charlm.__main__ import run
from charlm.comparison.statistics import difference
from charlm.comparison.table import differences
from charlm.reports.figures import colour_of
from charlm.terminal.console import print_columns
from charlm.text.sizes import TextSize
from charlm.text.vocabulary import Vocabulary

SETTINGS = [part for change in TINY for part in ("--set", change)]


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text(words(1500), encoding="utf-8")
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert run([*arguments]) == 2
    return capsys.readouterr().err


# ---- mistyped -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["train", "--steps", "300"], "--set train.steps=VALUE"),
        (["train", "--epochs", "3"], "--set train.steps=VALUE (in steps"),
        (["train", "--batch-size=3"], "--set train.batch_size=VALUE"),
        (["train", "--set", "model.input_size=3"], "did you mean 'model.embedding_size'?"),
        (["train", "--set", "model.init=zeros"], "did you mean 'model.initialization'?"),
        (["sample", "RUN", "ROMEO: o"], "charlm sample RUN --prompt 'ROMEO: o'"),
        (["score", "words.txt", "run"], "charlm score run words.txt"),
        (["train", "nothing.txt"], "there is no file nothing.txt"),
    ],
)
def test_the_message_names_what_to_type_instead(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], advice: str
) -> None:
    (folder / "run" / "checkpoints").mkdir(parents=True)
    assert advice in refused(capsys, *arguments)


def test_a_mistyped_command_imports_no_torch(folder: Path) -> None:
    code = (
        "import sys; from charlm.__main__ import run; "
        "run(['trian']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Did you mean 'train'?" in done.stderr


def test_help_shows_three_examples_and_cuts_no_line(folder: Path) -> None:
    done = charlm("--help", cwd=folder)
    assert len(re.findall("^    charlm ", done.stdout, re.MULTILINE)) == 3
    assert "..." not in done.stdout.replace("[ARGS]...", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(folder: Path, shell: str) -> None:
    words_typed = {"COMP_WORDS": "charlm tr", "COMP_CWORD": "1"}
    words_typed |= {"_TYPER_COMPLETE_ARGS": "charlm tr"}
    environment = {**os.environ, **words_typed, "_CHARLM_COMPLETE": f"complete_{shell}"}
    environment["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    code = "import sys; sys.argv[0] = 'charlm'; from charlm.__main__ import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert "train" in done.stdout, done.stderr
    assert "sample" not in done.stdout


# ---- what is unknown is never free --------------------------------------------------------------


@pytest.mark.parametrize("unknown", ["true", "false"])
def test_unknown_characters_never_improve_a_score(
    folder: Path, capsys: pytest.CaptureFixture[str], unknown: str
) -> None:
    assert run(["train", "-q", "--set", f"data.unknown={unknown}"]) == 0
    found = []
    for name, text in (("plain", "hello"), ("odd", "hello" + 20 * "Z")):
        (folder / name).write_text(text)
        capsys.readouterr()
        assert run(["score", "runs/hello-1", name, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    plain, odd = found
    assert odd["unknown_characters"] == 20
    assert odd["bits_per_character"] > plain["bits_per_character"]
    known = plain["bits_per_character"] * plain["characters"]
    least = known + 20 * math.log2(0x110000 - 0x800 - 4)
    assert odd["bits_per_character"] * odd["characters"] >= least * 0.999
    assert odd["loss"] > plain["loss"]
    assert run(["score", "runs/hello-1", "odd"]) == 0
    shown = capsys.readouterr().out
    assert "20 characters are outside the vocabulary; each is charged 20.1 bits" in shown


def test_a_smaller_vocabulary_does_not_look_better(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bits = []
    for count in (1, 400):  # at 400 most letters are unknown, and easy to predict as such
        changes = [*SETTINGS, "--set", f"data.minimum_count={count}", "--json", "-q"]
        assert run(["train", "words.txt", *changes]) == 0
        bits.append(json.loads(capsys.readouterr().out)["best"]["bits_per_character"])
    assert bits[1] > bits[0]


def test_a_text_that_normalising_shortens_is_measured_by_its_short_form() -> None:
    composed = Vocabulary("char", "nfc", (0xE9,), True)
    decomposed = Vocabulary("char", "nfd", (0x65, 0x301), True)
    assert size(composed, "e\u0301e\u0301") == size(composed, "éé") == (2, 4)
    assert size(decomposed, "éé") == (2, 4)


def test_the_size_of_a_text_does_not_depend_on_where_its_pieces_end() -> None:
    vocabulary = Vocabulary("char", "nfc", (0x30,), True)
    text = "\ufb2c\u212b"  # in NFC the first is longer, the second shorter
    assert size(vocabulary, *text) == size(vocabulary, text)


def size(vocabulary: Vocabulary, *pieces: str) -> tuple[int, int]:
    counted = TextSize(vocabulary)
    for piece in pieces:
        counted.add(piece)
    return counted.characters, counted.bytes


# ---- while it trains ----------------------------------------------------------------------------


def test_overfitting_is_told_once_and_patience_stops_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "names.txt").write_text("\n".join(words(9, seed) for seed in range(9)))
    fast = {"train.steps": 4000, "train.eval_every": 20, "train.learning_rate": 0.03}
    sizes = {"model.hidden_size": 24, "model.dropout": 0.0, "train.final_learning_rate": 1.0}
    changes = [f"{key}={value}" for key, value in {**fast, **sizes, "train.patience": 6}.items()]
    options = [part for change in changes for part in ("--set", change)]
    assert run(["train", "names.txt", *SETTINGS, *options, "--run", "mine"]) == 0
    out, err = capsys.readouterr()
    summary = json.loads(Path("mine/summary.json").read_text())
    assert summary["stopped_by"] == "patience"
    assert summary["best"]["step"] == summary["steps"] - 6 * 20
    told = re.findall("the validation has not improved for 3 evaluations, since step", err)
    assert len(told) >= 1
    assert "learning the text by heart" in err
    assert "stopped by train.patience" in out


def test_a_text_named_by_set_is_a_text_as_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    """Its preset was that of the word "hello", with three units."""
    Path("list.txt").write_text("\n".join(f"{one}{n}" for n, one in enumerate(words(900).split())))
    configs, said = [], []
    for name, text in (("a", ["--data", "list.txt"]), ("b", ["--set", "data.path=list.txt"])):
        assert run(["train", *text, *SETTINGS[2:], "--run", name]) == 0
        configs.append(Path(name, "config.toml").read_text())
        said.append(capsys.readouterr().err.count("hint        this looks like a list"))
    assert configs[0] == configs[1]
    assert said == [1, 1]


def test_dry_run_remarks_on_too_many_passes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "words.txt", "--dry-run", *SETTINGS, "--set", "train.steps=90000"]) == 0
    assert re.search(r"note: \d{3} passes are enough to learn this text", capsys.readouterr().out)
    assert run(["train", "words.txt", "--dry-run", *SETTINGS]) == 0
    assert "note:" not in capsys.readouterr().out


def test_samples_are_drawn_at_evaluations_and_change_no_bit(folder: Path) -> None:
    digests = []
    for name, every in (("with", 1), ("without", 0)):
        changes = [*SETTINGS, "--set", f"train.sample_every={every}", "--set", "model.dropout=0.2"]
        assert run(["train", "words.txt", *changes, "--run", name, "-q"]) == 0
        manifest = json.loads(Path(name, "checkpoints/step-00000012/manifest.json").read_text())
        digests.append([manifest["files"][f]["sha256"] for f in manifest["files"] if "safe" in f])
    assert digests[0] == digests[1]
    rows = [json.loads(line) for line in Path("with/metrics.jsonl").read_text().splitlines()]
    samples = [row for row in rows if row["kind"] == "sample"]
    assert [row["step"] for row in samples] == [6, 12]
    assert all(len(row["text"]) == 20 for row in samples)
    assert "sample" not in Path("without/metrics.jsonl").read_text()


# ---- what is printed ----------------------------------------------------------------------------


def test_korean_is_printed_as_korean(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "글.txt").write_text("가나다라 마바사 아자차카\n" * 60, encoding="utf-8")
    assert run(["train", "글.txt", *SETTINGS, "-q", "--json"]) == 0
    assert "runs/글-1" in capsys.readouterr().out
    assert run(["score", "runs/글-1", "글.txt", "--per-character"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith('\t"가"')
    assert run(["sample", "runs/글-1", "--prompt", "가나", "--length", "3", "--json"]) == 0
    shown = capsys.readouterr().out
    assert '"prompt": "가나"' in shown
    assert "\\u" not in shown


def test_tables_are_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    figures = ["2.373 ± 0.012", "123,456,789", "x" * 150]
    print_columns(["a", "b", "c"], [figures])
    out = capsys.readouterr().out
    assert all(figure in out for figure in figures)
    assert "…" not in out


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_seeds_give_a_sentence_and_no_interval(seeds: int) -> None:
    table = [
        {"cell": cell, "bits_per_character": {"values": [bits + 0.01 * n for n in range(seeds)]}}
        for cell, bits in (("rnn", 2.5), ("lstm", 2.2))
    ]
    (found,) = differences(table)
    assert "cannot show a difference (use --seeds 5)" in found["sentence"]
    assert "95 %" not in found["sentence"]
    assert (found["low"], found["high"], found["shown"]) == (None, None, False)
    assert difference([1.0] * seeds, [2.0] * seeds).is_open


def test_a_cell_has_its_colour_in_every_figure() -> None:
    assert colour_of("lstm") == colour_of("lstm:bias=false")
    assert len({colour_of(cell) for cell in ("rnn", "lstm", "gru")}) == 3
