"""Measure the time to save a checkpoint: of 10 million parameters, beside writing and syncing the
same bytes; and in a run of the preset `shakespeare` that saves every 100 steps.

python tests/benchmarks/saving.py [TEXT]
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from charlm.backends.device import prepare_process, resolve_device
from charlm.config import loading
from charlm.runs.directory import RunDirectory
from charlm.training import setup
from charlm.training.events import Saved
from charlm.training.prepare import prepare_run
from charlm.training.request import request_run

PARAMETERS = 10_000_000
ROUNDS = 7
STEPS = 400


def save_seconds(folder: Path, step: int) -> tuple[float, int]:
    """Return the seconds of a save of weights, two moments and an average, and its bytes."""
    run = RunDirectory(folder / "run")
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    weights = {"weights": torch.randn(PARAMETERS)}
    training = {name: torch.randn(PARAMETERS) for name in ("first", "second", "average")}
    began = time.perf_counter()
    saved = run.save(step, weights=weights, training=training, state={}, best=True)
    took = time.perf_counter() - began
    return took, sum(file.stat().st_size for file in saved.iterdir())


def write_seconds(folder: Path, size: int) -> float:
    """Return the seconds of writing and syncing as many bytes to one file."""
    content = os.urandom(size)
    began = time.perf_counter()
    with (folder / "bytes").open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    took = time.perf_counter() - began
    (folder / "bytes").unlink()
    return took


def share_of_training(folder: Path, text: str) -> tuple[float, float]:
    """Return the seconds of a run between its steps that went into saving, and of all of it."""
    changes = [f"train.steps={STEPS}", "train.checkpoint_every=100", "train.eval_every=10000"]
    layers = loading.load("shakespeare", changes, {"data.path": text})
    resolved = prepare_run(request_run(layers))
    prepare_process(resolve_device(resolved.config.train.device), resolved.config.train.threads)
    trainer, run = setup.begin(resolved, folder / "shakespeare")
    saving, save = [], run.save

    def timed(*given: object, **named: object) -> Path:
        began = time.perf_counter()
        folder = save(*given, **named)  # type: ignore[arg-type]
        saving.append(time.perf_counter() - began)
        return folder

    run.save = timed  # type: ignore[method-assign, assignment]
    began = time.perf_counter()
    ended = began
    for event in trainer.train(run):
        if isinstance(event, Saved) and event.step == STEPS - 100:
            ended = time.perf_counter()  # the last save is behind the last evaluation
    run.unlock()
    return sum(saving[:-1]), ended - began


def main() -> None:
    folder = Path(tempfile.mkdtemp(dir=Path.cwd()))
    try:
        ratios = []
        for step in range(ROUNDS):
            took, size = save_seconds(folder, step)
            bare = write_seconds(folder, size)
            ratios.append(took / bare)
            print(f"{size / 1e6:.0f} MB: saved in {took:.3f} s, written in {bare:.3f} s")
        print(f"a save takes {statistics.median(ratios):.2f} times as long (median of {ROUNDS})")
        if sys.argv[1:]:
            saving, whole = share_of_training(folder, sys.argv[1])
            print(f"checkpoints every 100 steps: {saving:.3f} s of {whole:.1f} s, "
                  f"{saving / whole:.2%}")  # fmt: skip
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
