"""The system beneath charlm: files, memory, errors; and the wording of sizes."""

import errno
import os
import time
from pathlib import Path

import pytest

from charlm.common import files, memory
from charlm.common.errors import CharlmError, UsageError, from_system
from charlm.common.outputs import CHECKPOINT, own_names
from charlm.common.wording import different_sizes, spread_text


def test_cache_is_in_the_users_cache_folder_unless_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "named"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "of all"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert files.cache_folder() == tmp_path / "named"
    monkeypatch.setenv("CHARLM_CACHE", "")
    assert files.cache_folder() == tmp_path / "of all" / "charlm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert files.cache_folder() == tmp_path / "home" / ".cache" / "charlm"


@pytest.mark.skipif(os.name != "posix", reason="permissions as on POSIX")
def test_folders_of_texts_are_closed_where_there_are_permissions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = files.cache_folder() / "files"
    folder.mkdir()
    folder.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        files.close_cache()
    assert folder.stat().st_mode & 0o777 == 0o755
    files.close_cache()
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.name != "posix", reason="folders are opened as on POSIX")
def test_names_in_a_folder_are_flushed_where_a_folder_can_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    files.sync_folder(tmp_path)
    assert len(flushed) == 1
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        files.sync_folder(tmp_path)
    assert len(flushed) == 1


def test_old_files_and_folders_are_swept_and_others_stay(tmp_path: Path) -> None:
    old = time.time() - 2 * files.ABANDONED_AFTER
    for name in ("old.part", "spared.part", "other.txt", "young.part"):
        (tmp_path / name).write_text("unfinished")
    (tmp_path / "folder.part").mkdir()
    (tmp_path / "folder.part" / "inside").write_text("unfinished")
    for path in tmp_path.iterdir():
        if path.name != "young.part":
            os.utime(path, (old, old))
    files.sweep(tmp_path, "*.part", spared=tmp_path / "spared.part")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["other.txt", "spared.part", "young.part"]


@pytest.mark.parametrize(
    ("number", "kind", "advice"),
    [
        (errno.EBADF, CharlmError, "give the result somewhere to go"),
        (errno.ENOMEM, CharlmError, "close other programs"),
        (errno.ENOSPC, CharlmError, "make room"),
        (errno.EACCES, CharlmError, "check its permissions"),
        (errno.ENAMETOOLONG, UsageError, "give another name"),
        (errno.EIO, CharlmError, "check the disk"),
    ],
)
def test_an_error_of_the_system_has_advice_of_its_own(
    number: int, kind: type[CharlmError], advice: str
) -> None:
    made = from_system(OSError(number, os.strerror(number), "a.txt"))
    assert type(made) is kind
    assert made.what == f"a.txt: {os.strerror(number)}"
    assert made.advice.startswith(advice)
    assert from_system(OSError(number, os.strerror(number))).what == os.strerror(number)


GROUP = "/sys/fs/cgroup"
SYSTEM = {"/proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 500 kB\n"}
LIMITS = {
    f"{GROUP}/memory.max": "400000\n",
    f"{GROUP}/memory.current": "300000\n",
    f"{GROUP}/memory.stat": "anon 250000\ninactive_file 40000\nactive_file 10000\n",
}


@pytest.mark.parametrize(
    ("there", "free"),
    [
        ({}, None),
        ({"/proc/meminfo": "MemTotal: 9000 kB\n"}, None),
        ({"/proc/meminfo": "MemAvailable:\n"}, None),
        (SYSTEM, 512_000),
        (SYSTEM | {f"{GROUP}/memory.max": "max\n", f"{GROUP}/memory.current": "1\n"}, 512_000),
        (SYSTEM | LIMITS, 150_000),
        ({name: text for name, text in LIMITS.items() if "stat" not in name}, 100_000),
        (
            {
                f"{GROUP}/memory/memory.limit_in_bytes": "5000\n",
                f"{GROUP}/memory/memory.usage_in_bytes": "7000\n",
            },
            0,
        ),
    ],
)
def test_free_memory_is_the_least_of_those_that_the_system_reports(
    there: dict[str, str], free: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path, encoding: str) -> str:
        if str(path) not in there:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return there[str(path)]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", read)
        found = memory.available()
    assert found == free


def test_a_checkpoint_alone_is_known_by_its_names() -> None:
    names = CHECKPOINT | {"training.safetensors"}
    assert own_names(names) == ("a checkpoint of charlm", names)
    assert own_names(names - {"state.json"}) == ("", frozenset())


def test_sizes_that_differ_by_less_than_a_byte_look_alike() -> None:
    assert different_sizes(998.75, 998.5) == ("999 B", "998 B")
    assert different_sizes(7.25, 7.251) == ("7.25 B", "7.25 B")
    assert different_sizes(1000.0001, 1000.0002) == ("1.000 KB", "1.000 KB")


def test_a_spread_is_shown_where_there_is_one() -> None:
    assert spread_text(None) == "-"
    assert spread_text(None, "not measured") == "not measured"
    assert spread_text({"mean": 1.5, "std": None}) == "1.500"
    assert spread_text({"mean": 1.5, "std": 0.25}) == "1.500 ± 0.250"
