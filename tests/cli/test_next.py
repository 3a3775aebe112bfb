"""Every command's last line on stderr says what to do next; stdout has the product only."""

from pathlib import Path

import pytest
from conftest import TINY, Command, words

SMALL = [part for change in TINY for part in ("--set", change)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.txt").write_text(words(1500), encoding="utf-8")
    assert command("train", "my.txt", "--run", "runs/one", "-q", *SMALL).returncode == 0
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["train", "my.txt", *SMALL], "next: charlm sample runs/my-1"),
        (
            ["train", "--resume", "--run", "runs/one", "--set", "train.steps=13"],
            "next: charlm sample runs/one",
        ),
        (["score", "runs/one", "my.txt"], "next: charlm score runs/one my.txt --html page.html"),
        (["score", "runs/one", "my.txt", "--html", "a.html"], "next: open a.html in a browser"),
        (["score", "runs/one", "--split", "val"], "next: charlm inspect runs/one --errors"),
        (
            ["score", "runs/one", "my.txt", "--checkpoint", "6", "--window", "9"],
            "next: charlm score runs/one my.txt --checkpoint 6 --window 9 --html page.html",
        ),
        (
            ["score", "runs/one/checkpoints/step-00000006", "my.txt", "--encoding", "cp1251"],
            "next: charlm score runs/one/checkpoints/step-00000006 my.txt --encoding cp1251 --html",
        ),
        (
            ["score", "runs/one", "--split", "val", "--data", "my.txt", "--checkpoint", "6"],
            "next: charlm inspect runs/one --checkpoint 6 --data my.txt --errors",
        ),
        (
            ["inspect", "runs/one", "--checkpoint", "6"],
            "next: charlm inspect runs/one --checkpoint 6",
        ),
        (["inspect", "runs/one"], "next: charlm inspect runs/one --units --gradients"),
        (["inspect", "runs/one", "--gates", "the fox"], "next: open "),
        (["runs"], "next: charlm sample runs/one"),
        (["runs", "."], "next: charlm train my.txt"),
        (["init", "hello"], "next: charlm init hello --out my.toml"),
        (["init", "hello", "--out", "b.toml"], "next: charlm train b.toml --data my.txt"),
        (["init", "hello", "--out", "b"], "next: mv b b.toml"),
        (["bench", "rnn", "--shape", "32x1", "--rounds", "1"], "next: charlm train my.txt --dry"),
        (["cache"], "next: charlm cache --clear"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_last_line_says_what_to_do_next(
    command: Command, arguments: list[str], wanted: str
) -> None:
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1].startswith(wanted)
    assert "next:" not in done.stdout


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "runs/one", "my.txt"],
        ["inspect", "runs/one"],
        ["runs"],
        ["bench", "rnn", "--shape", "32x1", "--rounds", "1"],
        ["cache"],
    ],
    ids=" ".join,
)
def test_json_is_followed_by_no_advice(command: Command, arguments: list[str]) -> None:
    done = command(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert "next:" not in done.stdout + done.stderr


@pytest.mark.usefixtures("folder")
def test_a_comparison_names_its_page(command: Command) -> None:
    small = [part for change in TINY[1:] for part in ("--set", change)]
    more = ["--set", "model.hidden_size=16", "--set", "data.split=[0.7,0.2,0.1]", "--seeds", "1"]
    options = ["--data", "my.txt", "--match", "hidden", "--out", "there", *small, *more]
    done = command("compare", "rnn", *options)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1].startswith("next: open there/")
    again = command("compare", "rnn", *options, "-q")
    assert "next:" not in again.stdout + again.stderr
