"""Paths that a run names are opened with the user's word only, by every command."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import TINY, Command, begun, tiny_plan, words
from conftest import charlm as run_command

import charlm
from charlm.common import consent
from charlm.common.errors import DataError
from charlm.common.files import cache_folder
from charlm.comparison import truncation as training_length
from charlm.config import loading
from charlm.config.schema import to_toml
from charlm.inspection import truncation
from charlm.reports.inspection import views
from charlm.runs.manifest import MANIFEST, STATE
from charlm.training import setup

PACKAGE = str(Path(charlm.__file__).parent)
"""It has a module of readers, which a command may import only then."""

ADDRESS = "https://collector.example/text.txt"
COMMANDS = {
    "overview": ["inspect", "RUN"],
    "gates": ["inspect", "RUN", "--gates", "the lazy dog"],
    "units": ["inspect", "RUN", "--units"],
    "gradients": ["inspect", "RUN", "--gradients"],
    "context": ["inspect", "RUN", "--context"],
    "errors": ["inspect", "RUN", "--errors"],
    "memorization": ["inspect", "RUN", "--memorization"],
    "bptt": ["inspect", "RUN", "--bptt"],
    "score": ["score", "RUN", "--split", "val"],
    "score-adapt": ["score", "RUN", "own.txt", "--adapt"],
    "score-ngram": ["score", "RUN", "own.txt", "--with", "ngram"],
    "copies": ["sample", "RUN", "--length", "9", "--check-copies"],
    "ngram": ["sample", "RUN", "--length", "9", "--with", "ngram"],
    "adapt": ["sample", "RUN", "--length", "9", "--adapt", "--prompt", "the fox"],
    "resume": ["train", "--resume", "--run", "RUN", "-q"],
    "resume-longer": ["train", "--resume", "--run", "RUN", "-q", "--set", "train.steps=14"],
}
SPLIT = "data.split=[0.5,0.4,0.1]"
"""Enough to look into, and little to adapt to."""
SHOWN_WITHOUT_TEXT = {"overview", "gates"}


@pytest.fixture(autouse=True)
def short_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands read and write less than what makes their figures precise."""
    monkeypatch.setattr(views, "WRITTEN", 500)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the reader's that a stranger's run may name."""
    path = tmp_path / "reader" / "secret.txt"
    path.parent.mkdir()
    path.write_text(words(1500, seed=3), encoding="utf-8")
    return path


@pytest.fixture
def strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that makes a stranger's run with a path of its choice as its text."""
    text = tmp_path / "stranger" / "words.txt"
    text.parent.mkdir()
    text.write_text(words(1000), encoding="utf-8")
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "cache of the stranger"))
    trainer, run = setup.begin(tiny_plan(text, SPLIT), tmp_path / "stranger" / "run")
    for _ in trainer.train(run):
        pass
    run.unlock()
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.txt").write_text(words(300, seed=5), encoding="utf-8")

    def naming(path: object, **train: object) -> Path:
        copy = shutil.copytree(run.path, tmp_path / "RUN", dirs_exist_ok=True)
        for folder in copy.glob("checkpoints/step-*"):
            forge(folder, path, **train)
        (copy / "config.toml").write_text(
            json.loads((folder / STATE).read_text())["config"], encoding="utf-8"
        )
        return Path(copy)

    return naming


def forge(folder: Path, path: object, **train: object) -> None:
    """Let a checkpoint name another text or other runs, and its manifest agree."""
    state = json.loads((folder / STATE).read_text())
    config = loading.from_toml(state["config"], "test")
    data = config.data.model_copy(update={"path": path, "sha256": "0" * 64})
    own = config.train.model_copy(update=train)
    put_state(
        folder, state | {"config": to_toml(config.model_copy(update={"data": data, "train": own}))}
    )


def put_state(folder: Path, state: dict[str, Any]) -> None:
    content = json.dumps(state).encode()
    (folder / STATE).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"][STATE] = {"size": len(content), "sha256": digest}
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def audited() -> list[list[str]]:
    """Lists that take what this process opens, lists or connects to, as its audit events say."""
    listeners: list[list[str]] = []
    events = {"open", "os.listdir", "os.scandir", "socket.getaddrinfo", "urllib.Request"}

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if event in events:
            for seen in listeners:
                seen.append(str(arguments[0]))

    sys.addaudithook(hear)  # for ever: there is no way to take one away
    return listeners


@pytest.fixture
def opened(audited: list[list[str]]) -> Iterator[list[str]]:
    audited.append([])
    yield audited[-1]
    audited.clear()


# ---- nothing without the user's word ------------------------------------------------------------


def refused(done: SimpleNamespace, opened: list[str]) -> str:
    """Check that a command has opened nothing of the reader's and said so once; return its talk."""
    foreign = [name for name in opened if not name.startswith(PACKAGE)]
    assert not [name for name in foreign if "reader" in name or "collector" in name]
    assert done.stderr.count("was not made here") == 1, done.stderr
    assert "Traceback" not in done.stderr
    return str(done.stderr)


@pytest.mark.parametrize("kind", ["address", "file"])
@pytest.mark.parametrize("name", COMMANDS)
def test_command_opens_no_text_that_a_strangers_run_names(
    strangers: Callable[..., Path],
    secret: Path,
    command: Command,
    opened: list[str],
    name: str,
    kind: str,
) -> None:
    named = ADDRESS if kind == "address" else str(secret)
    strangers(named)
    done = command(*COMMANDS[name])
    said = refused(done, opened)
    assert named in said
    assert "--data PATH" in said
    assert done.returncode == (0 if name in SHOWN_WITHOUT_TEXT else 2)


@pytest.mark.parametrize("kind", ["folder", "relative", "list", "dots", "no file"])
@pytest.mark.parametrize("name", ["overview", "units", "score", "resume"])
def test_other_names_of_a_text_are_not_opened_either(
    strangers: Callable[..., Path],
    secret: Path,
    command: Command,
    opened: list[str],
    name: str,
    kind: str,
) -> None:
    named = {
        "folder": str(secret.parent),
        "relative": "reader/secret.txt",
        "list": ["builtin:hello.txt", str(secret)],
        "dots": f"{secret.parent}/../own.txt",  # which the user has named, by another name
        "no file": str(secret.parent / "none"),
    }
    consent.remember([str(secret.parent.parent / "own.txt")])
    strangers(named[kind])
    done = command(*COMMANDS[name])
    refused(done, opened)


def test_a_strangers_run_does_not_read_stdin_as_its_text(
    strangers: Callable[..., Path], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    strangers("-")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(words(500).encode())))
    for name in ("overview", "score", "resume"):
        assert "was not made here" in command(*COMMANDS[name]).stderr
    assert sys.stdin.read() == words(500)
    assert not (cache_folder() / "stdin").exists()


@pytest.mark.parametrize("key", ["teachers", "start_from"])
@pytest.mark.parametrize("begun", [False, True])
def test_no_run_that_a_strangers_run_names_is_opened(
    strangers: Callable[..., Path],
    secret: Path,
    command: Command,
    opened: list[str],
    key: str,
    begun: bool,
) -> None:
    other = str(secret.parent / "runs" / "mine")
    value: object = [other] if key == "teachers" else other
    own = str(secret.parent.parent / "own.txt")
    consent.remember([own])
    run = strangers(own, **{key: value})
    if begun:  # it never came to a checkpoint, and begins by its config.toml
        shutil.rmtree(run / "checkpoints")
        (run / "checkpoints").mkdir()
    done = command("train", "--resume", "--run", str(run), "-q")
    if key == "start_from" and not begun:  # its weights are there: nothing starts from another run
        assert "was not made here" not in done.stderr
        assert not [name for name in opened if "reader" in name]
        return
    said = refused(done, opened)
    assert done.returncode == 2
    assert other in said
    option = {"teachers": "--teacher", "start_from": "--init"}[key]
    assert option in said
    again = command("train", "--resume", "--run", str(run), "-q", option, other)
    assert again.returncode == 2
    assert f"there is no run {other}" in again.stderr  # the user has named it: it is looked for


def test_a_strangers_fingerprint_names_nothing_in_the_cache(
    strangers: Callable[..., Path], secret: Path, command: Command, opened: list[str]
) -> None:
    run = strangers(str(secret))
    for folder in run.glob("checkpoints/step-*"):
        state = json.loads((folder / STATE).read_text())
        put_state(folder, state | {"corpus": "../../reader/x"})
    refused(command(*COMMANDS["score"]), opened)


def test_a_text_in_the_cache_does_not_fit_a_forged_vocabulary(
    strangers: Callable[..., Path], secret: Path, command: Command
) -> None:
    run = strangers(str(secret))
    mine = tiny_plan(secret, SPLIT)
    for folder in run.glob("checkpoints/step-*"):
        state = json.loads((folder / STATE).read_text())
        state["vocabulary"]["symbols"] = state["vocabulary"]["symbols"][::-1]
        put_state(folder, state | {"corpus": mine.corpus.fingerprint})
    done = command(*COMMANDS["score"])
    assert done.returncode == 3
    assert "vocabulary" in done.stderr


# ---- the user's word ----------------------------------------------------------------------------


def test_answer_at_a_question_is_kept(
    strangers: Callable[..., Path], tmp_path: Path, command: Command
) -> None:
    strangers(str(tmp_path / "stranger" / "words.txt"))
    asked: list[tuple[str, list[str]]] = []

    def question(kind: str, names: Sequence[str]) -> bool:
        asked.append((kind, list(names)))
        return len(asked) > 1

    model = charlm.load("RUN")
    with consent.asking(question):
        for _ in range(3):
            with contextlib.suppress(consent.NoConsentError):
                model.adaptive()
    assert asked == [("text", [str(tmp_path / "stranger" / "words.txt")])] * 2
    assert command(*COMMANDS["score"]).returncode == 0


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("", 2), ("no", 2)])
def test_user_is_asked_at_a_terminal(
    strangers: Callable[..., Path], tmp_path: Path, answer: str, code: int
) -> None:
    pty = pytest.importorskip("pty")
    path = tmp_path / ("x" * 200) / ("y" * 200) / ("z" * 200) / ("v" * 200) / "a\x1b[2K\nb.txt"
    path.parent.mkdir(parents=True)
    (tmp_path / "stranger" / "words.txt").rename(path)
    strangers(str(path))
    leader, follower = pty.openpty()
    terminal = Path(f"/proc/{os.getpid()}/fd/{follower}")
    command = ("score", "RUN", "--split", "val")
    child = begun(*command, cwd=tmp_path, stdin=terminal, stderr=follower)
    os.close(follower)
    seen = b""
    while not seen.endswith(b"[y/N] "):
        seen += os.read(leader, 1000)
    os.write(leader, answer.encode() + b"\n")
    with contextlib.suppress(OSError):
        while more := os.read(leader, 1000):
            seen += more
    product, _ = child.communicate(timeout=60)
    shown = seen.decode().replace("\r\n", "\n")
    assert str(path).replace("\x1b", "\u241b").replace("\n", "\u240a") in shown
    assert "\x1b[2K" not in shown
    assert child.returncode == code
    assert ("bits per character" in product) == (code == 0)


def test_nobody_is_asked_where_no_terminal_is(
    strangers: Callable[..., Path], secret: Path, tmp_path: Path
) -> None:
    strangers(str(secret))
    done = run_command("score", "RUN", "--split", "val", cwd=tmp_path, stdin="y\n")
    assert done.returncode == 2
    assert "Open it?" not in done.stderr


@pytest.mark.parametrize("way", ["argument", "--data", "--set", "file", "python", "compare"])
def test_text_that_the_user_has_named_is_opened_for_any_run(
    strangers: Callable[..., Path], tmp_path: Path, command: Command, way: str
) -> None:
    text = tmp_path / "stranger" / "words.txt"
    strangers(str(text))
    settings = [part for change in TINY for part in ("--set", change)]
    (tmp_path / "my.toml").write_text(f'[data]\npath = "{text}"\n')
    given = {
        "argument": ["train", str(text)],
        "--data": ["train", "--data", str(text)],
        "--set": ["train", "default", "--set", f"data.path={text}"],
        "file": ["train", "my.toml"],
        "compare": ["compare", "rnn", "--data", str(text), "--seeds", "1", "--match", "hidden"],
    }
    assert command(*COMMANDS["score"]).returncode == 2
    if way == "python":
        charlm.train(text, set=TINY)
    else:
        assert command(*given[way], *settings, "-q").returncode == 0
    shutil.rmtree(cache_folder() / "corpora")  # so that the text itself is read again
    done = command(*COMMANDS["score"])
    assert done.returncode == 0, done.stderr


def test_own_run_whose_text_was_not_noted_reads_the_copy_in_the_cache(
    tmp_path: Path,
    text_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
    opened: list[str],
) -> None:
    """As of a version that kept no names."""
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    charlm.train(text_file, set=TINY, run="RUN")
    (tmp_path / "own.txt").write_text(words(300, seed=5), encoding="utf-8")
    shutil.rmtree(cache_folder() / "named")
    opened.clear()
    for name in ("units", "score", "copies", "adapt", "resume-longer"):
        done = command(*COMMANDS[name])
        assert done.returncode == 0, done.stderr
    assert str(text_file) not in opened
    shutil.rmtree(cache_folder() / "corpora")
    assert "was not made here" in command(*COMMANDS["score"]).stderr


# ---- a text that was moved ----------------------------------------------------------------------


MOVED = {name: given for name, given in COMMANDS.items() if not name.startswith("resume")}


@pytest.mark.parametrize("name", COMMANDS)
def test_text_that_was_moved_is_read_from_there(
    strangers: Callable[..., Path],
    tmp_path: Path,
    command: Command,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(truncation, "STRETCH", 64)
    monkeypatch.setattr(training_length, "CHARACTERS", 20_000)
    text = tmp_path / "stranger" / "words.txt"
    strangers(str(text))
    text.rename(tmp_path / "moved.txt")
    done = command(*COMMANDS[name], "--data", "moved.txt")
    assert done.returncode == 0, done.stderr
    assert "left out" not in done.stderr
    assert "the same power" not in done.stderr


@pytest.mark.parametrize("name", MOVED)
def test_another_text_is_refused(
    strangers: Callable[..., Path], tmp_path: Path, command: Command, name: str
) -> None:
    strangers(str(tmp_path / "stranger" / "words.txt"))
    done = command(*MOVED[name], "--data", "own.txt")
    assert done.returncode == 2
    assert "own.txt is not the text that this run was trained on" in done.stderr
    assert done.stdout == ""


def test_text_in_several_files_is_read_from_where_they_are(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    second = tmp_path / "second.txt"
    second.write_text(words(900, seed=2), encoding="utf-8")
    charlm.train(data=[text_file, second], set=TINY, run="RUN")
    expected = json.loads(command(*COMMANDS["score"], "--json").stdout)
    text_file.rename(tmp_path / "a.txt")
    second.rename(tmp_path / "b.txt")
    gone = command(*COMMANDS["score"])
    assert gone.returncode == 2
    assert "--data PATH" in gone.stderr
    found = command(*COMMANDS["score"], "--json", "--data", "a.txt", "--data", "b.txt")
    assert json.loads(found.stdout) == expected
    reader = charlm.load("RUN", data=["a.txt", tmp_path / "b.txt"]).adaptive()
    assert reader.pace
    with pytest.raises(DataError, match="is not the text"):
        charlm.load("RUN", data=["b.txt", "a.txt"])


def test_page_says_how_to_make_it_again_with_a_moved_text(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    charlm.train(text_file, set=TINY, run="RUN")
    text_file.rename(tmp_path / "moved.txt")
    assert command("inspect", "RUN", "--units", "--data", "moved.txt").returncode == 0
    page = (tmp_path / "RUN" / "inspect" / "units.html").read_text()
    assert "charlm inspect RUN --units --data moved.txt" in page
