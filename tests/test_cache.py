"""`charlm cache`: what is kept on the disk, and how it is cleared."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY, Command, words

READS = """
import sys
from charlm.config.schema import DataConfig
from charlm.text import corpus
data = DataConfig(path="words.txt")
found = corpus.prepare(data, corpus.survey(data))
print("ready", flush=True)
sys.stdin.readline()
print(len(found.symbols[:].tolist()))
"""


@pytest.fixture(autouse=True)
def _trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "cache"))
    Path("words.txt").write_text(words(1500), encoding="utf-8")
    settings = [part for change in TINY for part in ("--set", change)]
    assert command("train", "words.txt", "--run", "mine", "-q", *settings).returncode == 0


def test_cache_shows_its_bytes_by_kind_and_is_cleared(command: Command) -> None:
    report = json.loads(command("cache", "--json").stdout)
    assert report["folder"] == os.environ["CHARLM_CACHE"]
    assert report["bytes"] == sum(report["kinds"].values())
    assert report["kinds"]["texts"] > len(words(1500))
    shown = command("cache")
    assert "encoded texts" in shown.stdout
    assert "charlm cache --clear" in shown.stderr
    named = Path("cache/named")
    named.mkdir(exist_ok=True)
    (named / "one").write_text("x")
    cleared = json.loads(command("cache", "--clear", "--json").stdout)
    assert cleared["freed"] == report["bytes"]
    assert (cleared["bytes"], cleared["kinds"]["texts"]) == (0, 0)
    assert (named / "one").exists()
    assert command("score", "mine", "--split", "val").returncode == 0  # made again


def test_clearing_keeps_what_another_process_reads_and_texts_from_stdin(command: Command) -> None:
    (stdin := Path("cache/stdin")).mkdir()
    (stdin / "a.txt").write_text("cannot be made again")
    with subprocess.Popen(
        [sys.executable, "-c", READS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        said = command("cache", "--clear").stderr
        assert "in use by another charlm" in said
        assert "texts from stdin stay" in said
        process.stdin.write("go on\n")
        process.stdin.close()
        assert int(process.stdout.readline()) >= len(words(1500))
    assert (stdin / "a.txt").exists()
    assert json.loads(command("cache", "--clear", "--json").stdout)["kinds"]["texts"] == 0


def test_clearing_follows_no_link(tmp_path: Path, command: Command) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept.txt").write_text("mine")
    Path("cache/corpora/link").symlink_to(outside)
    assert command("cache", "--clear").returncode == 0
    assert not Path("cache/corpora/link").is_symlink()
    assert (outside / "kept.txt").read_text() == "mine"
