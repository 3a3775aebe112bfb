"""Files that charlm keeps of texts: for their owner only, whatever the umask."""

import io
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import charlm, tiny_plan, words

from charlm.common.files import OF_TEXTS, cache_folder
from charlm.config.schema import DataConfig
from charlm.text import corpus
from charlm.text.files import measuring, sources

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")


@pytest.fixture(params=[0o000, 0o022])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def open_to_others(folder: Path) -> dict[str, str]:
    """List the kept files and folders of texts that others may read, write or enter."""
    kept = [path for name in OF_TEXTS for path in (folder / name, *(folder / name).rglob("*"))]
    assert any(path.is_file() for path in kept)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in kept if path.exists()}
    return {str(path.relative_to(folder)): oct(mode) for path, mode in modes.items() if mode & 0o77}


@pytest.fixture
def in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut and keep small texts as large ones are."""
    monkeypatch.setattr(measuring, "PIECE", 4_000)
    monkeypatch.setattr(measuring, "BLOCK", 1_000)
    monkeypatch.setattr(measuring, "RACY", 0)


def text_of(folder: Path, size: int = 4_000) -> Path:
    path = folder / "secret.txt"
    path.write_text(words(size), encoding="utf-8")
    path.chmod(0o600)
    return path


def test_encoded_text_is_for_its_owner_only(
    tmp_path: Path, umask: int, in_small_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = text_of(tmp_path)
    tiny_plan(text)
    with text.open("a") as file:  # grown: shards are taken over, and the latest is noted
        file.write(words(2_000, seed=1))
    tiny_plan(text)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(words(300).encode())))
    sources.absolute("-")
    assert {"corpora", "files", "latest", "locks", "stdin"} <= {
        path.name for path in cache_folder().iterdir()
    }
    assert open_to_others(cache_folder()) == {}


def test_a_new_cache_is_for_its_owner_only(
    tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "new" / "cache"))
    tiny_plan(text_of(tmp_path))
    for folder in (tmp_path / "new", tmp_path / "new" / "cache"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_a_killed_start_leaves_is_for_its_owner_only(
    tmp_path: Path, umask: int, in_small_pieces: None
) -> None:
    def killed(done: int, total: int) -> None:
        if done > total // 2:
            raise SystemExit

    data = DataConfig(path=str(text_of(tmp_path)))
    with pytest.raises(SystemExit):
        corpus.prepare(data, corpus.survey(data), advanced=killed)
    assert list((cache_folder() / "corpora").glob(".encoding-*/kept/*"))
    assert open_to_others(cache_folder()) == {}


@pytest.mark.parametrize("encoded_before", [True, False])
def test_folders_of_an_earlier_version_are_closed(tmp_path: Path, encoded_before: bool) -> None:
    text = text_of(tmp_path)
    if encoded_before:
        tiny_plan(text)
    for name in OF_TEXTS:
        (cache_folder() / name).mkdir(exist_ok=True)
        (cache_folder() / name).chmod(0o755)
    (cache_folder() / "stdin" / "typed.txt").write_text("a secret")
    tiny_plan(text)
    modes = {name: stat.S_IMODE((cache_folder() / name).stat().st_mode) for name in OF_TEXTS}
    assert set(modes.values()) == {0o700}


def test_shards_taken_over_from_an_earlier_version_are_for_their_owner_only(
    tmp_path: Path, in_small_pieces: None
) -> None:
    text = text_of(tmp_path)
    tiny_plan(text)
    shards = list((cache_folder() / "corpora").glob("*/symbols-*"))
    assert len(shards) >= 4
    for shard in shards:
        shard.chmod(0o644)
    with text.open("a") as file:
        file.write(words(2_000, seed=1))
    tiny_plan(text)
    assert any(shard.stat().st_nlink > 1 for shard in shards)
    assert not any(
        stat.S_IMODE(shard.stat().st_mode) & 0o77 for shard in shards if shard.stat().st_nlink > 1
    )


def test_encoded_text_is_for_its_owner_only_in_processes_of_its_own(tmp_path: Path) -> None:
    text_of(tmp_path)
    before = os.umask(0)
    try:
        done = charlm(
            *("train", "secret.txt", "-q", "--set", "train.steps=1"),
            *("--set", "model.hidden_size=4", "--set", "train.batch_size=2"),
            cwd=tmp_path,
        )
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    assert open_to_others(cache_folder()) == {}
