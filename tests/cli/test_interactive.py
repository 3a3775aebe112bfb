"""`charlm sample --interactive`: turns, commands, the likeliest word, a terminal."""

import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY, charlm, train_each, words

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


def test_a_turn_can_be_taken_back_only_once(run: Path) -> None:
    session = Session(load(run), {"length": 3, "seed": 1}, "the ")
    list(session.turn("fox "))
    assert session.change("undo") == "the "
    assert session.change("undo") == session.text == "the "
    assert session.before == []
    assert Session(load(run), {}).change("undo") == "(nothing yet)"


def test_a_seed_makes_the_turns_repeat(run: Path) -> None:
    session = Session(load(run), {"length": 9})
    assert session.change("seed 7") == "seed = 7"
    written = "".join(session.turn("the "))
    assert written == load(run).sample("the ", length=9, seed=7)
    assert session.options["seed"] == 8  # of the next turn


def test_a_given_prompt_is_shown_and_continued(run: Path) -> None:
    given = ("--prompt", "the quick ", "--seed", "1", "--length", "9")
    out, err = turns(run, "brown\n", *given)
    assert err.splitlines()[0] == "the quick "
    written = load(run).sample("the quick brown", length=9, seed=1)
    assert out == f"brown{written}".removesuffix("\n") + "\n"


def test_a_record_that_has_ended_is_followed_by_a_new_one(tmp_path: Path) -> None:
    train_each(tmp_path, words(1500), {"lines": ["data.records=lines"]})
    session = Session(load(tmp_path / "lines"), {"length": 2000, "seed": 1})
    written = "".join(session.turn("the "))
    assert 0 < len(written) < 2000
    assert (session.text, session.before) == ("", [""])
    assert session.change("text") == "(nothing yet)"


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


class Terminal:
    """A command on a terminal of its own, ended with the `with` block."""

    def __init__(self, *command: str, cwd: Path) -> None:
        self.end, child = pty.openpty()
        self.process = subprocess.Popen(
            command, cwd=cwd, stdin=child, stdout=child, stderr=child, close_fds=True
        )
        os.close(child)
        self.unread = ""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.end)

    def type(self, keys: str) -> None:
        os.write(self.end, keys.encode())

    def read(self) -> None:
        ready, _, _ = select.select([self.end], [], [], 60)
        assert ready, self.unread
        self.unread += os.read(self.end, 4096).decode("utf-8", "replace")

    def wait_for(self, text: str) -> None:
        """Read up to the end of a text, which is then no longer waited for."""
        while text not in self.unread:
            self.read()
        self.unread = self.unread.partition(text)[2]


def test_tab_takes_a_word_on_a_terminal(run: Path) -> None:
    """And Ctrl-C stops the model, Ctrl-D ends."""
    command = [sys.executable, "-m", "charlm", "sample", "run", "--interactive", "--length", "5"]
    word = Session(load(run), {}).likely_word("the qu")
    with Terminal(*command, cwd=run.parent) as terminal:
        terminal.wait_for("> ")
        terminal.type("the qu\t")
        terminal.wait_for("the qu" + word.split("\n")[0])
        terminal.type("\n")
        terminal.wait_for("\n> ")
        terminal.type("/length 10000000\n")
        terminal.wait_for("length = 10000000")
        terminal.wait_for("\n> ")
        terminal.type("the \n")
        terminal.wait_for("the ")
        while len(terminal.unread) < 500:  # it writes
            terminal.read()
        terminal.process.send_signal(signal.SIGINT)
        terminal.wait_for("\n> ")
        terminal.type("\x04")
        assert terminal.process.wait(timeout=60) == 0
