"""Clearing of the cache while other processes use it."""

from pathlib import Path

import pytest
from filelock import FileLock

from charlm.text import cache
from charlm.text.symbols import UNFINISHED

NAME = "0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("content")
    return path


def test_kernels_that_are_being_compiled_stay(folder: Path) -> None:
    kernels = [put(folder / "kernels" / f"{NAME}.{end}") for end in ("lock", "so", "sha256")]
    task = put(folder / "tasks" / "copy.txt")
    with FileLock(kernels[0]):
        assert cache.clear() == ["compiled kernels"]
        assert all(path.exists() for path in kernels)
        assert not task.exists()
    assert cache.clear() == []
    assert not any(path.exists() for path in kernels[1:])


def test_text_that_is_being_encoded_stays_with_its_lock(folder: Path) -> None:
    lock = put(folder / "locks" / f"{NAME}-7.lock")
    other = put(folder / "locks" / f"{NAME}-8.lock")
    unfinished = put(folder / "corpora" / f"{UNFINISHED}{NAME}-7" / "symbols-00000.bin").parent
    left = put(folder / "corpora" / f"{UNFINISHED}{NAME}-8" / "symbols-00000.bin").parent
    with FileLock(lock):
        assert cache.clear() == [unfinished.name]
        assert (lock.exists(), unfinished.is_dir()) == (True, True)
        assert (other.exists(), left.exists()) == (False, False)
    assert cache.clear() == []
    assert not unfinished.exists()
