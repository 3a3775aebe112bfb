"""Training on the predictions of other runs beside the text."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, Command, tiny_plan, words
from torch.nn import functional as F

from charlm.backends.step import NativeComputation, TorchComputation
from charlm.common.errors import UsageError
from charlm.config.schema import ModelConfig
from charlm.models.recurrent import CharModel
from charlm.native.build import UnavailableError
from charlm.native.interface import Kernels
from charlm.native.library import load_library
from charlm.native.model import SoftTargets
from charlm.training import teachers
from charlm.training.events import Trained
from charlm.training.prepare import prepare_run
from charlm.training.request import request_run
from charlm.training.setup import begin, resume
from charlm.training.source import choose_layers

SETTINGS = [
    part
    for change in [*TINY, "model.cell=lstm", "model.hidden_size=12", "train.steps=60"]
    for part in ("--set", change)
]


def windows(V: int, T: int = 5, B: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # noqa: N803
    generator = torch.Generator().manual_seed(4)
    both = torch.randint(V, (T + 1, B), generator=generator)
    return both[:-1], both[1:], torch.rand(T, B, V, generator=generator).softmax(-1)


@pytest.mark.parametrize("kind", ["torch", "native"])
@pytest.mark.parametrize(
    ("cell", "V", "T"), [("lstm", 7, 5), ("gru", 7, 5), ("rnn", 7, 5), ("gru", 515, 110)]
)
def test_gradients_are_those_of_the_mixed_loss(kind: str, cell: str, V: int, T: int) -> None:  # noqa: N803
    model = CharModel(ModelConfig(cell=cell, hidden_size=32, embedding_size=4), V)
    model.reset_parameters(0)
    symbols, targets, q = windows(V, T)
    logits, _ = model(symbols, model.initial_states(3))
    logs = logits.log_softmax(-1)
    hard = F.nll_loss(logs.flatten(0, 1), targets.flatten())
    soft = -(q * logs).sum(-1).mean()
    wanted = torch.autograd.grad(0.7 * hard + 0.3 * soft, list(model.parameters()))
    computation: Any = TorchComputation(model)
    if kind == "native":
        try:
            kernels = Kernels(load_library())
        except UnavailableError as error:
            pytest.skip(f"no kernels here: {error}")
        computation = NativeComputation(model, kernels)
    losses, _ = computation.loss_and_gradients(
        symbols, targets, model.initial_states(3), soft=SoftTargets(q, 0.3)
    )
    assert losses.mean().item() == pytest.approx(hard.item(), abs=1e-5)  # the text's part alone
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        assert torch.allclose(parameter.grad, gradient, rtol=1e-4, atol=1e-6)  # type: ignore[arg-type]
    found, _ = computation.log_probabilities(symbols, model.initial_states(3))
    assert torch.allclose(found, logs, atol=1e-5)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text(words(1500), encoding="utf-8")
    for seed in ("0", "1"):
        given = ["train", "words.txt", "--run", f"teacher-{seed}", "-q", *SETTINGS]
        assert command(*given, "--set", f"train.seed={seed}").returncode == 0
    return tmp_path


TEACHERS = ["--teacher", "teacher-0", "--teacher", "teacher-1"]
NEXT = ["train", "words.txt", "-q", *SETTINGS, "--set", "train.seed=2", *TEACHERS]


def weights(run: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    latest = (run / "checkpoints" / "latest").read_text(encoding="utf-8").strip()
    return load_file(run / "checkpoints" / latest / "model.safetensors")


def test_taught_run_resumes_bit_for_bit(folder: Path, command: Command) -> None:
    whole = command(*NEXT, "--run", "whole")
    assert whole.returncode == 0, whole.stderr
    changes = [*SETTINGS[1::2], "train.seed=2"]
    flags = {"data.path": "words.txt", "train.teachers": ["teacher-0", "teacher-1"]}
    trainer, run = begin(
        prepare_run(request_run(choose_layers("default", changes, flags))), Path("cut")
    )
    for event in trainer.train(run):
        if isinstance(event, Trained) and event.step >= 20:
            trainer.stop()
    run.unlock()
    assert 20 <= trainer.progress.step < 60
    resumed = resume(Path("cut"))
    for _ in resumed.trainer.train(resumed.run):
        pass
    resumed.run.unlock()
    for name, value in weights(folder / "whole").items():
        assert (value == weights(folder / "cut")[name]).all()


def test_taught_run_learns_something_else(folder: Path, command: Command) -> None:
    for name, given in (("taught", NEXT), ("alone", NEXT[: -len(TEACHERS)])):
        done = command(*given, "--run", name)
        assert done.returncode == 0, done.stderr
    alone = weights(folder / "alone")
    assert any((v != alone[name]).any() for name, v in weights(folder / "taught").items())


def test_teacher_of_another_text_is_refused(folder: Path, command: Command) -> None:
    (folder / "other.txt").write_text("0123456789 \n" * 500, encoding="utf-8")
    done = command(
        *("train", "other.txt", "--run", "student", "-q", *SETTINGS, "--teacher", "teacher-0")
    )
    assert done.returncode == 2
    assert "the teacher" in done.stderr
    assert "reads other symbols" in done.stderr
    assert not (folder / "student").exists()


def test_teacher_of_another_text_of_the_same_symbols_is_refused(
    tmp_path: Path, text_file: Path
) -> None:
    own = tiny_plan(text_file)
    trainer, run = begin(own, tmp_path / "teacher")
    trainer.stop()
    for _ in trainer.train(run):
        pass
    run.unlock()
    (tmp_path / "other.txt").write_text(words(1500, seed=9), encoding="utf-8")
    other = tiny_plan(tmp_path / "other.txt").corpus
    assert {*other.vocabulary.code_points} == {*own.corpus.vocabulary.code_points}
    other = replace(other, vocabulary=own.corpus.vocabulary)  # in the same order, too
    given = [range(3)], torch.device("cpu")
    assert teachers.read([str(run.path)], own.corpus, *given) is not None
    with pytest.raises(UsageError, match="has learned from another text, or from other parts"):
        teachers.read([str(run.path)], other, *given)


def test_teacher_that_was_trained_further_is_refused_on_resuming(
    folder: Path, command: Command
) -> None:
    done = command(*NEXT, "--run", "student")
    assert done.returncode == 0, done.stderr
    state = next((folder / "student" / "checkpoints").glob("step-*/state.json"))
    assert len(json.loads(state.read_text(encoding="utf-8"))["teachers"]) == 2
    further = command(
        *("train", "--resume", "--run", "teacher-1", "-q", "--set", "train.steps=200")
    )
    assert further.returncode == 0, further.stderr
    again = command(*("train", "--resume", "--run", "student", "-q", "--set", "train.steps=80"))
    assert again.returncode == 2, again.stderr
    assert "teachers of this run have changed" in again.stderr
