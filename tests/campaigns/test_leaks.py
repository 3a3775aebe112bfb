"""A long training does not grow: memory, open files, threads and temporary files are after the
second half of a run what they were after the first."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, words

# Trains in a process of its own, and prints what it holds at a tenth of the way, half way and at
# the end. Memory is settled by malloc_trim, so that what is freed does not count.
PROBE = """
import ctypes, gc, json, os, sys, tempfile, threading
from pathlib import Path
from charlm.backends.device import prepare_process, resolve_device
from charlm.config import loading
from charlm.training import setup
from charlm.training.prepare import prepare_run
from charlm.training.request import request_run
from charlm.training.events import Trained

text, folder, count, *changes = sys.argv[1:]
count = int(count)

def held():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    files = sorted(os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
                   if os.path.exists(f"/proc/self/fd/{n}"))
    return {
        "kilobytes": int(status["VmRSS"].split()[0]),
        "files": files,
        "threads": int(status["Threads"]),
        "python_threads": threading.active_count(),
        "temporary": sorted(os.listdir(tempfile.gettempdir())),
        "run": sorted(os.listdir(folder)),
        "checkpoints": len(os.listdir(Path(folder, "checkpoints"))),
        "mapped": len(Path("/proc/self/maps").read_text().splitlines()),
    }

resolved = prepare_run(request_run(loading.load("default", changes, {"data.path": text})))
prepare_process(resolve_device("cpu"), 1)
trainer, run = setup.begin(resolved, Path(folder))
found = []
for event in trainer.train(run):
    if isinstance(event, Trained) and event.step in (count // 10, count // 2, count):
        found.append(held())
run.unlock()
print(json.dumps({"backend": trainer.environment()["backend"], "found": found}))
"""

GROWTH = 2048
"""Kilobytes: pages of the allocator, not something that each step leaves."""

sizes = pytest.mark.parametrize("count", [1500, pytest.param(100_000, marks=pytest.mark.nightly)])


def measured(tmp_path: Path, code: str, count: int, *changes: str) -> dict[str, Any]:
    """Run a probe in a process of its own, with an empty folder for temporary files."""
    text, temporary = tmp_path / "words.txt", tmp_path / "temporary"
    text.write_text(words(3000), encoding="utf-8")
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, text, tmp_path / "run", str(count), *TINY, *changes],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
        timeout=count / 10 + 120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def long_run(count: int) -> list[str]:
    """Settings of a run with twenty evaluations, samples and checkpoints."""
    often = [f"train.{name}_every={count // 20}" for name in ("eval", "checkpoint")]
    sizes = ["model.hidden_size=32", f"train.steps={count}", "train.sample_length=20"]
    return [*often, *sizes, "train.log_every=50", "train.patience=0"]


def assert_steady(report: dict[str, Any]) -> None:
    early, middle, end = report["found"]
    assert end["files"] == middle["files"]
    assert end["threads"] == middle["threads"] == early["threads"]
    assert end["python_threads"] == middle["python_threads"]
    assert end["temporary"] == middle["temporary"] == early["temporary"]
    assert end["run"] == middle["run"]
    assert end["checkpoints"] <= middle["checkpoints"] + 1  # two, the best, and two pointers
    assert end["mapped"] <= middle["mapped"] + 8  # arenas of the allocator come one at a time
    grown = end["kilobytes"] - middle["kilobytes"]
    assert grown < GROWTH, (early["kilobytes"], middle["kilobytes"], end["kilobytes"])


@sizes
@pytest.mark.parametrize("cell", ["lstm", pytest.param("gru", marks=pytest.mark.nightly)])
def test_training_with_native_kernels_does_not_grow(
    tmp_path: Path, kernel_types: list[str], cell: str, count: int
) -> None:
    if not kernel_types:
        pytest.skip("the kernels cannot be built here")
    changes = [*long_run(count), f"model.cell={cell}", "train.backend=native"]
    report = measured(tmp_path, PROBE, count, *changes)
    assert report["backend"] == "native"
    assert_steady(report)


@sizes
def test_training_with_torch_does_not_grow(tmp_path: Path, count: int) -> None:
    changes = ["train.backend=torch", "model.dropout=0.2", "train.weight_average=0.9"]
    report = measured(tmp_path, PROBE, count, *long_run(count), "model.cell=gru", *changes)
    assert report["backend"] == "torch"
    assert_steady(report)


@sizes
def test_resuming_again_and_again_does_not_grow(tmp_path: Path, count: int) -> None:
    """In one process: the files, maps and locks of the runs before are given back."""
    code = PROBE.replace(
        "found = []\n",
        "list(trainer.train(run)); run.unlock(); found = []\n"
        "for number in range(1, count + 1):\n"
        "    resumed = setup.resume(Path(folder), [f'train.steps={4 + number}'])\n"
        "    trainer, run = resumed.trainer, resumed.run\n"
        "    list(trainer.train(run)); run.unlock()\n"
        "    if number in (count // 2, count): found.append(held())\n"
        "print(json.dumps({'found': found})); sys.exit()\n",
    )
    times = 20 + count // 100
    changes = ["train.steps=4", "train.eval_every=10000", "train.backend=torch"]
    middle, end = measured(tmp_path, code, times, *changes)["found"]
    for name in ("files", "threads", "python_threads", "temporary", "run"):
        assert end[name] == middle[name]
    assert end["mapped"] <= middle["mapped"] + 8
    assert end["kilobytes"] - middle["kilobytes"] < GROWTH
