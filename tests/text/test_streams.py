"""Texts that can be read once: standard input, FIFOs, numbered files; and addresses."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import TINY, Command, charlm, words

from charlm.common.files import cache_folder
from charlm.config import loading
from charlm.text.files import compressed, sources, streams

SETTINGS = [word for setting in TINY for word in ("--set", setting)]
TEXT = words(700)


def path_of(run: Path) -> str:
    config = loading.from_toml((run / "config.toml").read_text(), "config.toml")
    assert isinstance(config.data.path, str)
    return config.data.path


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="as on Linux")
@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
@pytest.mark.parametrize("way", ["pipe", "file"])
def test_standard_input_by_any_name_is_kept_and_resumed(
    tmp_path: Path, name: str, way: str
) -> None:
    source = tmp_path / "text.txt"
    source.write_text(TEXT)
    stdin = TEXT if way == "pipe" else source
    done = charlm("train", "--data", name, *SETTINGS, "--quiet", cwd=tmp_path, stdin=stdin)
    assert done.returncode == 0
    run = tmp_path / "runs" / "stdin-1"
    assert path_of(run).startswith(str(cache_folder()))
    assert Path(path_of(run)).read_text() == TEXT
    source.unlink()
    more = ("--resume", "--run", str(run), "--set", "train.steps=13", "--quiet")
    assert charlm("train", *more, cwd=tmp_path).returncode == 0


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="needs a shell with <(...)")
def test_what_a_shell_makes_of_a_command_is_a_text(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    settings = " ".join(SETTINGS)
    line = f"{sys.executable} -m charlm train <(cat text.txt) {settings} --quiet"
    done = subprocess.run(["/bin/bash", "-c", line], cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert Path(path_of(tmp_path / "runs" / "stdin-1")).read_text() == TEXT


def test_a_fifo_is_read_once_however_often_it_is_named(tmp_path: Path) -> None:
    """A comparison resolves its text for every cell."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_text, args=(TEXT,))
    writer.start()
    first = sources.absolute(str(fifo))
    writer.join()
    assert sources.absolute(str(fifo)) == first
    assert Path(first).read_text() == TEXT
    assert not streams.is_stream(first)


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "fifo", *SETTINGS),
        ("compare", "lstm", "--data", "fifo", *SETTINGS),
        ("score", "run", "fifo"),
        ("inspect", "run", "--probe", "fifo"),
    ],
)
def test_a_fifo_that_nobody_writes_to_is_not_waited_for(
    tmp_path: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compressed, "FIFO_SECONDS", 0.1)
    Path("text.txt").write_text(TEXT)
    assert command("train", "text.txt", *SETTINGS, "--run", "run", "-q").returncode == 0
    os.mkfifo("fifo")
    done = command(*arguments)
    assert done.returncode == 2
    assert "error: cannot read fifo: it is a FIFO, and nothing came out of it" in done.stderr


def test_a_fifo_is_scored_however_late_its_text_comes(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)
    assert command("train", "text.txt", *SETTINGS, "--run", "run", "-q").returncode == 0
    os.mkfifo("fifo")
    writer = threading.Timer(0.5, Path("fifo").write_text, (TEXT,))
    writer.start()
    late = command("score", "run", "fifo", "--json")
    writer.join()
    at_once = command("score", "run", "text.txt", "--json")
    assert json.loads(late.stdout) == json.loads(at_once.stdout)


def test_a_stream_without_a_text_is_refused(tmp_path: Path) -> None:
    done = charlm("train", "--data", "/dev/stdin", cwd=tmp_path)
    assert done.returncode == 2
    assert "/dev/stdin is empty" in done.stderr
    assert not list((cache_folder() / "stdin").iterdir())


def test_devices_are_no_texts(tmp_path: Path) -> None:
    for name in ("/dev/zero", "/dev/null"):
        done = charlm("train", name, cwd=tmp_path)
        assert done.returncode == 2
        assert f"{name} is neither a file nor a folder" in done.stderr


def test_several_processes_are_not_given_one_stream(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    done = charlm("train", str(fifo), "--processes", "2", cwd=tmp_path)
    assert done.returncode == 2
    assert "several processes cannot read one" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "https://example.org/a.txt"),
        ("train", "http://example.org/a.txt"),
        ("train", "--data", "http://example.org/a.txt"),
        ("train", "--data", "ftp://example.org/a.txt"),
        ("train", "--data", "https://example.org/a.txt"),
        ("compare", "rnn", "--data", "s3://texts/a.txt"),
        ("score", "runs", "https://example.org/a.txt"),
        ("score", "https://example.org/a.txt"),
        ("train", "default", "--set", 'data.path="http://example.org/a.txt"'),
    ],
)
def test_an_address_is_told_from_a_file(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = charlm(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "download it and name the file" in done.stderr
    assert "data.sha256" in done.stderr or arguments[0] == "score"
    assert list(tmp_path.iterdir()) == []
