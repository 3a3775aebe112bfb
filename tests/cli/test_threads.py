"""The number of OpenMP's threads, set before torch is imported."""

import os
from pathlib import Path

import pytest

from charlm.cli import threads


def group(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_max", ".max").replace("cfs", "cpu.cfs")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu_max": "150000 100000\n"}, 1.5),
        ({"cpu_max": "max 100000\n"}, None),
        ({"cpu_max": "damaged\n"}, None),
        ({"cpu__cfs_quota_us": "100000\n", "cpu__cfs_period_us": "50000\n"}, 2.0),
        ({"cpu__cfs_quota_us": "-1\n", "cpu__cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_the_quota_is_that_of_the_control_group(
    tmp_path: Path, files: dict[str, str], cores: float | None
) -> None:
    assert threads.quota(group(tmp_path, **files)) == cores


def test_threads_follow_the_quota_unless_the_user_sets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    folder = group(tmp_path, cpu_max="100000 100000\n")
    threads.set_up(folder)
    assert os.environ == {"OMP_NUM_THREADS": "1"}
    own = {"OMP_NUM_THREADS": "7"}
    monkeypatch.setattr(os, "environ", dict(own))
    threads.set_up(folder)
    assert os.environ == own
