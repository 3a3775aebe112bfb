"""Undisturbed steps of training, whatever happens between them: evaluating, sampling, saving
and logging at any rhythm, and stopping and resuming anywhere, end with the same bits."""

import random
from pathlib import Path

import pytest
import torch
from conftest import tiny_plan, words

from charlm.runs import checkpoint
from charlm.runs.directory import RunDirectory
from charlm.training import setup
from charlm.training.events import Trained

STEPS = 30
LASTING = [f"train.steps={STEPS}", "train.patience=0"]

CELLS = [
    ["model.cell=rnn", "model.dropout=0.3", "train.weight_average=0.9"],
    ["model.cell=lstm", "model.dropout=0.3", "train.weight_average=0.9", "model.num_layers=2"],
    ["model.cell=gru", "model.dropout=0.3", "train.weight_average=0.9"],
    ["model.cell=gru", "model.dropout=0.3", "model.reset_gate=before", "train.backend=torch"],
]

sizes = pytest.mark.parametrize("count", [5, pytest.param(60, marks=pytest.mark.nightly)])
cells = pytest.mark.parametrize("cell", CELLS, ids=lambda changes: " ".join(changes[:3]))


@pytest.fixture
def short_text(tmp_path: Path) -> Path:
    """So short that the lanes begin anew within the run."""
    path = tmp_path / "words.txt"
    path.write_text(words(200), encoding="utf-8")
    return path


def trained(path: Path, folder: Path, *changes: str) -> dict[str, torch.Tensor]:
    trainer, run = setup.begin(tiny_plan(path, *LASTING, *changes), folder)
    list(trainer.train(run))
    run.unlock()
    return tensors_of(run)


def tensors_of(run: RunDirectory) -> dict[str, torch.Tensor]:
    """The evaluated weights, the trained ones, the optimizer's and the carried states."""
    saved = checkpoint.read(run.find("latest"))
    assert saved.step == STEPS
    return {**{f"model.{k}": v for k, v in saved.weights.items()}, **saved.training()}


def is_lost_at_a_log(name: str, value: torch.Tensor) -> bool:
    """The sum of the losses since the last log is the one value that logging sets back."""
    return "loss" in name and value.numel() == 1


def assert_same_bits(expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> None:
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        if not is_lost_at_a_log(name, value):
            assert value.dtype == found[name].dtype, name
            assert torch.equal(value, found[name]), name


def rhythm(rng: random.Random) -> list[str]:
    return [
        f"train.eval_every={rng.randint(1, STEPS + 5)}",
        f"train.checkpoint_every={rng.randint(1, STEPS + 5)}",
        f"train.log_every={rng.randint(1, STEPS + 5)}",
        f"train.sample_every={rng.randint(0, 3)}",
        f"train.sample_length={rng.randint(1, 40)}",
    ]


@sizes
@cells
def test_training_is_the_same_at_any_rhythm(
    tmp_path: Path, short_text: Path, cell: list[str], count: int
) -> None:
    rng = random.Random(" ".join(cell))
    silent = [f"train.{name}_every=1000" for name in ("eval", "checkpoint", "log")]
    expected = trained(short_text, tmp_path / "silent", *cell, *silent, "train.sample_every=0")
    for number in range(count):
        changes = rhythm(rng)
        found = trained(short_text, tmp_path / str(number), *cell, *changes)
        assert_same_bits(expected, found)


@sizes
@cells
def test_training_is_the_same_after_any_stops(
    tmp_path: Path, short_text: Path, cell: list[str], count: int
) -> None:
    """Stops asked for (with a checkpoint) and deaths (without one), one to four in a run, and the
    rhythm changes at each resume."""
    rng = random.Random(" ".join(cell) + "stops")
    expected = trained(short_text, tmp_path / "whole", *cell)
    for number in range(count):
        folder = tmp_path / str(number)
        changes = [*LASTING, *cell, *rhythm(rng), "train.log_every=1"]
        trainer, run = setup.begin(tiny_plan(short_text, *changes), folder)
        for _ in range(rng.randint(1, 4)):
            at, dies = trainer.learner.step + rng.randint(1, 12), rng.random() < 0.4
            for event in trainer.train(run):
                if isinstance(event, Trained) and event.step == at:
                    if dies:
                        break  # as if the process had ended here
                    trainer.stop()
            run.unlock()
            resumed = setup.resume(folder, [*rhythm(rng), "train.log_every=1"])
            assert resumed.differences == []
            trainer, run = resumed.trainer, resumed.run
        list(trainer.train(run))
        run.unlock()
        assert_same_bits(expected, tensors_of(run))
