"""`charlm sample --interactive`: turns, commands, the likeliest word, a terminal."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import TINY, charlm, words

from charlm.api import load
from charlm.cli.interactive import Session


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("turns")
    (folder / "words.txt").write_text(words(1500), encoding="utf-8")
    sets = [part for change in [*TINY, "train.steps=60"] for part in ("--set", change)]
    done = charlm("train", "words.txt", "--run", "run", *sets, "-q", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def turns(run: Path, typed: str, *options: str) -> tuple[str, str]:
    done = charlm("sample", "run", "--interactive", *options, cwd=run.parent, stdin=typed)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_each_turn_continues_all_that_came_before(run: Path) -> None:
    out, _ = turns(run, "the \nfox \n\n", "--seed", "3", "--length", "20")
    model, text, wanted = load(run), "", ""
    for number, typed in enumerate(("the ", "fox ", "")):
        text += typed
        piece = model.sample(text, length=20, seed=3 + number)
        text += piece
        wanted += typed + (piece if piece.endswith("\n") else f"{piece}\n")
    assert out == wanted


def test_commands_change_the_writing(run: Path) -> None:
    out, err = turns(run, "/temperature 0\n/length 8\nthe \n/undo\n/text\nthe \n", "--seed", "1")
    first, second = out.split("\n")[:2]
    written = load(run).sample("the ", length=8, temperature=0)
    assert first == second == f"the {written}".rstrip("\n")
    assert "temperature = 0" in err
    assert "(nothing yet)" in err


def test_wrong_commands_are_answered(run: Path) -> None:
    _, err = turns(run, "/nothing\n/temperature hot\n/top_p 7\n/seed -1\n/help\n")
    for said in ("no command /nothing", "'hot' is no value", "top_p = 7.0", "below 0", "Ctrl-D"):
        assert said in err


def test_a_slash_can_be_typed(run: Path) -> None:
    session = Session(load(run), {"length": 3})
    list(session.turn("/ a"))
    assert session.text.startswith("/ a")
    out, err = turns(run, "//help\n", "--seed", "1", "--length", "4")
    assert len(out.rstrip("\n")) <= len("/help") + 4
    assert "Ctrl-D" not in err


def test_likeliest_word_is_the_greedy_one(run: Path) -> None:
    session = Session(load(run), {}, "the ")
    word = session.likely_word("qu")
    written = load(run).sample("the qu", length=30, temperature=0)
    assert written.startswith(word)
    assert not word.strip() or word.split()[-1].isalnum()
    assert session.text == "the "


@pytest.mark.parametrize("option", ["--num 2", "--json", "--adapt", "--with ngram", "--prompt -"])
def test_options_that_exclude_turns(run: Path, option: str) -> None:
    done = charlm("sample", "run", "--interactive", *option.split(), cwd=run.parent)
    assert done.returncode == 2
    assert f"--interactive and {option.partition(' 2')[0].split(' ngram')[0]}" in done.stderr


def test_tab_takes_a_word_on_a_terminal(run: Path) -> None:
    """And Ctrl-C stops the model, Ctrl-D ends."""
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "charlm", "sample", "run", "--interactive", "--length", "5"]
    process = subprocess.Popen(
        command, cwd=run.parent, stdin=child, stdout=child, stderr=child, close_fds=True
    )
    os.close(child)
    seen = ""

    def wait_for(text: str) -> None:
        nonlocal seen
        end = time.monotonic() + 60
        while text not in seen:
            assert time.monotonic() < end, seen
            seen += os.read(parent, 4096).decode("utf-8", "replace")

    wait_for("> ")
    word = Session(load(run), {}).likely_word("the qu")
    os.write(parent, b"the qu\t")
    wait_for("the qu" + word.split("\n")[0])
    os.write(parent, b"\n")
    seen = ""
    wait_for("> ")
    os.write(parent, b"/length 10000000\n")
    wait_for("length = 10000000")
    wait_for("> ")
    seen = ""
    os.write(parent, b"the \n")
    while len(seen) < 500:  # it writes
        seen += os.read(parent, 4096).decode("utf-8", "replace")
    os.kill(process.pid, signal.SIGINT)
    wait_for("\n> ")
    os.write(parent, b"\x04")
    assert process.wait(timeout=60) == 0
    os.close(parent)
