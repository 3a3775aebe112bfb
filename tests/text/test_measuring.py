"""Measures of a file that are remembered, and forgotten when it changes."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from charlm.common.files import cache_folder
from charlm.config.schema import DataConfig
from charlm.text import corpus
from charlm.text.files import measuring
from charlm.text.files.compressed import BLOCK

SIZE = 2 * BLOCK
"""Bytes of a file that is worth remembering."""


@pytest.fixture(autouse=True)
def _remembers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of this very moment are remembered, too: the changes here are further apart."""
    monkeypatch.setattr(measuring, "RACY", 0)


def aged(path: Path, letters: str) -> Path:
    """Write a text of one size and one time of change, whatever its letters."""
    path.write_text(letters * (SIZE // len(letters)))
    os.utime(path, (1, 1))
    time.sleep(0.02)  # the next change has another ctime, whatever the clock's step
    return path


def move(new: Path, old: Path) -> None:
    new.rename(old)


def copy_with_times(new: Path, old: Path) -> None:
    shutil.copy2(new, old)  # as `cp -p`, into the same inode


def copy_anew(new: Path, old: Path) -> None:
    old.unlink()
    shutil.copy2(new, old)  # as tar and rsync do


def rewrite(new: Path, old: Path) -> None:
    with old.open("r+b") as file:
        file.write(new.read_bytes())
    os.utime(old, (1, 1))


def swap_link(new: Path, old: Path) -> None:
    old.unlink()
    old.symlink_to(new)


@pytest.mark.skipif(not measuring.HAS_CHANGE_TIME, reason="nothing is remembered")
@pytest.mark.parametrize("put", [move, copy_with_times, copy_anew, rewrite, swap_link])
def test_another_text_of_the_same_size_and_time_is_read(
    tmp_path: Path, put: Callable[[Path, Path], None]
) -> None:
    path = aged(tmp_path / "text.txt", "abcd")
    data = DataConfig(path=str(path))
    first = corpus.prepare(data, corpus.survey(data))
    assert list((cache_folder() / "files").iterdir())
    put(aged(tmp_path / "new.txt", "wxyz"), path)
    assert (path.stat().st_size, path.stat().st_mtime) == (SIZE, 1)
    second = corpus.prepare(data, corpus.survey(data))
    assert first.vocabulary.decode(first.symbols[:4].tolist()) == "abcd"
    assert second.vocabulary.decode(second.symbols[:4].tolist()) == "wxyz"
    assert first.fingerprint != second.fingerprint


def test_a_file_that_stays_as_it_is_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataConfig(path=str(aged(tmp_path / "text.txt", "abcd")))
    first = corpus.survey(data)
    monkeypatch.setattr(measuring, "blocks", lambda *_: pytest.fail("read again"))
    assert corpus.survey(data) == first


def test_a_file_that_has_just_changed_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its inode's time: anything else can be set to what it was."""
    monkeypatch.setattr(measuring, "RACY", 2_000_000_000)
    corpus.survey(DataConfig(path=str(aged(tmp_path / "text.txt", "abcd"))))
    assert not (cache_folder() / "files").exists()


def test_nothing_is_remembered_where_an_inode_has_no_time_of_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "HAS_CHANGE_TIME", False)
    corpus.survey(DataConfig(path=str(aged(tmp_path / "text.txt", "abcd"))))
    assert not (cache_folder() / "files").exists()


def test_place_to_cut_is_found_far_before_the_end_of_a_block() -> None:
    accents = "\u0301" * 40_000  # each combines with the one before: 80,000 bytes
    data = DataConfig(normalize="nfc")
    assert measuring.Borders(data).last_in(f"one two{accents}".encode()) == len("one tw")
    assert measuring.Borders(data).last_in(f"o{accents}".encode()) == 0
