"""`charlm cache`: what is kept on the disk, and how it is cleared."""

import json
import os
import shutil
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
    (stdin / "0123456789abcdef.txt").write_text("cannot be made again")
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
    assert (stdin / "0123456789abcdef.txt").exists()
    assert json.loads(command("cache", "--clear", "--json").stdout)["kinds"]["texts"] == 0


def test_clearing_follows_no_link(tmp_path: Path, command: Command) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept.txt").write_text("mine")
    Path("cache/corpora/0123456789abcdef01234567-6").symlink_to(outside)
    assert command("cache", "--clear").returncode == 0
    assert not Path("cache/corpora/0123456789abcdef01234567-6").is_symlink()
    assert (outside / "kept.txt").read_text() == "mine"


def test_clearing_removes_only_what_charlm_has_named(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    for name in ("corpora", "downloads", "files", "kernels", "latest", "locks", "stdin"):
        (home / name).mkdir(parents=True)
        (home / name / "mine.txt").write_text("mine")
        (home / name / "mine").mkdir()
    (home / "downloads" / "tmpabc").write_text("a download under way")
    (home / "kernels" / f"{'0' * 24}.so").write_text("kernels")
    monkeypatch.setenv("CHARLM_CACHE", str(home))
    report = json.loads(command("cache", "--clear", "--json").stdout)
    assert report["freed"] == len("kernels")
    assert (home / "downloads" / "tmpabc").exists()
    assert len(list(home.glob("*/mine.txt"))) == len(list(home.glob("*/mine"))) == 7


def test_clearing_follows_no_link_in_the_place_of_a_kind(tmp_path: Path, command: Command) -> None:
    corpora = Path("cache/corpora")
    corpora.rename(tmp_path / "elsewhere")
    before = sorted((tmp_path / "elsewhere").rglob("*"))
    corpora.symlink_to(tmp_path / "elsewhere")
    assert command("cache", "--clear").returncode == 0
    assert sorted((tmp_path / "elsewhere").rglob("*")) == before


def test_encoded_texts_that_nothing_opens_any_more_are_removed(command: Command) -> None:
    old, used = "cache/corpora/" + "0" * 24 + "-6", next(Path("cache/corpora").iterdir())
    shutil.copytree(used, old)
    for folder in (old, used):
        os.utime(folder, (1e9, 1e9))
    assert command("score", "mine", "--split", "val").returncode == 0  # opens one of them
    Path("words.txt").write_text(words(1600), encoding="utf-8")
    settings = [part for change in TINY for part in ("--set", change)]
    assert command("train", "words.txt", "--run", "other", "-q", *settings).returncode == 0
    assert not Path(old).exists()
    assert used.exists()
