"""A new cell is one file (matrix_memory.py) and one line: everything works with it."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import TINY, words
from matrix_memory import SLOTS, MatrixMemory

import charlm
from charlm.__main__ import run
from charlm.cells import CELLS, CellEntry
from charlm.cells.base import State
from charlm.training.learner import Learner
from charlm.training.prepare import prepare_run
from charlm.training.request import request_run
from charlm.training.source import choose_layers

SIZES = ("model.cell=matrix", "model.hidden_size=36", "model.num_layers=2", "model.dropout=0.2")
SETTINGS = [part for change in (*TINY, *SIZES) for part in ("--set", change)]


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setitem(CELLS, "matrix", CellEntry("matrix_memory:MatrixMemory"))  # the one line
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text(words(1500), encoding="utf-8")
    return tmp_path


def weights(path: Path) -> dict[str, torch.Tensor]:
    return charlm.load(path, which="latest").checkpoint.weights


def test_a_new_cell_trains_and_resumes_bit_for_bit(folder: Path) -> None:
    whole = [*SETTINGS, "--set", "train.final_learning_rate=1.0", "-q"]
    assert run(["train", "words.txt", "--run", "whole", *whole]) == 0
    half = [*whole, "--set", "train.steps=7"]
    assert run(["train", "words.txt", "--run", "parted", *half]) == 0
    assert run(["train", "--resume", "--run", "parted", "--set", "train.steps=12", "-q"]) == 0
    expected, found = weights(folder / "whole"), weights(folder / "parted")
    assert any(name.startswith("cells.1.key") for name in expected)
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def test_a_new_cell_is_sampled_and_scored(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "words.txt", "--run", "mine", *SETTINGS, "--json", "-q"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["cell"], summary["backend"]) == ("matrix", "torch")
    assert run(["sample", "mine", "--length", "30", "--seed", "1", "--num", "2", "--json"]) == 0
    samples = json.loads(capsys.readouterr().out)["samples"]
    assert [len(sample["text"]) for sample in samples] == [30, 30]
    assert run(["score", "mine", "words.txt", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)["bits_per_character"]
    assert run(["score", "mine", "words.txt", "--window", "2000", "--json"]) == 0
    windows = json.loads(capsys.readouterr().out)["bits_per_character"]
    assert whole == pytest.approx(windows, abs=0.2)
    assert run(["train", "words.txt", *SETTINGS, "--set", "train.backend=native"]) == 2
    assert "the kernels have no cell 'matrix'" in capsys.readouterr().err


def test_a_new_cell_is_compared_and_measured(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [part for change in TINY[1:] for part in ("--set", change)]
    options = ["--data", "words.txt", "--seeds", "3", "--out", "there", "--json", "-q"]
    sizes = ["--set", "model.hidden_size=64", "--set", "data.split=[0.7,0.2,0.1]"]
    assert run(["compare", "matrix", "rnn", *small, *sizes, *options]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["cell"] for row in result["rows"]] == ["matrix", "rnn"]
    reached = {run["cell"]: run["gradient_trained"] for run in result["runs"]}
    assert set(reached["matrix"]) == {"h", "memory"}
    assert run(["bench", "matrix", "--shape", "32x1", "--rounds", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["train"].keys() == {"torch"}


def test_a_new_cell_is_exported_and_computed_elsewhere(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [part for change in (*TINY, "model.cell=matrix") for part in ("--set", change)]
    assert run(["train", "words.txt", "--run", "exported", *sets, "-q"]) == 0
    assert run(["export", "exported", "--to", "onnx"]) == 0
    capsys.readouterr()
    session = onnxruntime.InferenceSession("exported.onnx", providers=["CPUExecutionProvider"])
    states = [
        np.full([1, 1, *one.shape[2:]], begin, np.float32)
        for one, begin in zip(session.get_inputs()[1:], (0, 0.1), strict=True)
    ]
    symbols = np.arange(8)[:, None] % 5
    names = [one.name for one in session.get_inputs()]
    logits, *_ = session.run(None, dict(zip(names, [symbols, *states], strict=True)))
    model = charlm.load("exported").model
    wanted, _ = model(torch.from_numpy(symbols), model.initial_states(1))
    assert np.abs(logits - wanted.numpy()).max() < 1e-5


def test_resets_start_lanes_of_any_state_anew_even_where_lanes_are_as_many_as_units(
    folder: Path,
) -> None:
    changes = [*TINY, "model.cell=matrix", "model.hidden_size=12", "train.batch_size=12"]
    layers = choose_layers("words.txt", [*changes, "train.state_reset=0.5"])
    resolved = prepare_run(request_run(layers))
    split = resolved.corpus.train
    learner = Learner(
        resolved.config,
        resolved.corpus.symbols[split.start : split.stop],
        len(resolved.corpus.vocabulary),
    )
    learner.take_step()
    carried = learner.states[0][0]
    h, memory = learner._opening_states(1)[0][0]
    assert memory.shape == (12, 12, SLOTS)
    anew = [bool((memory[lane] == 0.1).all() and (h[lane] == 0).all()) for lane in range(12)]
    kept = [torch.equal(memory[lane], carried[1][lane]) for lane in range(12)]
    assert 0 < sum(anew) < 12
    assert [not one for one in kept] == anew


def test_a_step_that_onnx_cannot_hold_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def branching(self: MatrixMemory, x: torch.Tensor, state: State) -> State:
        return step(self, x if x.sum() > 0 else -x, state)

    sets = [part for change in (*TINY, "model.cell=matrix") for part in ("--set", change)]
    assert run(["train", "words.txt", "--run", "branching", *sets, "-q"]) == 0
    step = MatrixMemory.step
    monkeypatch.setattr(MatrixMemory, "step", branching)
    assert run(["export", "branching", "--to", "onnx"]) == 2
    said = capsys.readouterr().err
    assert "cannot write a step of matrix" in said
    assert "--to hub" in said
    assert not Path("branching.onnx").exists()


@pytest.mark.parametrize("cell", [name for name, entry in CELLS.items() if not entry.gates])
def test_each_cell_without_kernels_is_of_use(
    folder: Path, capsys: pytest.CaptureFixture[str], cell: str
) -> None:
    """It resumes bit for bit, is sampled, scored and inspected; no page computes it."""
    changes = (*TINY, f"model.cell={cell}", "model.num_layers=2", "train.final_learning_rate=1.0")
    sets = [part for change in changes for part in ("--set", change)]
    assert run(["train", "words.txt", "--run", "whole", *sets, "-q", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["backend"] == "torch"
    assert (
        run(["train", "words.txt", "--run", "parted", *sets, "--set", "train.steps=7", "-q"]) == 0
    )
    assert run(["train", "--resume", "--run", "parted", "--set", "train.steps=12", "-q"]) == 0
    expected, found = weights(folder / "whole"), weights(folder / "parted")
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    capsys.readouterr()
    assert run(["sample", "whole", "--length", "30", "--seed", "1"]) == 0
    assert len(capsys.readouterr().out.rstrip("\n")) >= 29
    assert run(["score", "whole", "words.txt", "--json"]) == 0
    assert 0 < json.loads(capsys.readouterr().out)["bits_per_character"] < 7
    assert run(["inspect", "whole", "--gates", "the fox", "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["gates"]["layers"]
    assert set(CELLS[cell].load().letters) <= set(layers[1])
    if len(CELLS[cell].load().state_parts) > 3:  # more curves than colours
        assert run(["inspect", "whole", "--gradients"]) == 0
        capsys.readouterr()
    assert run(["export", "whole", "--to", "html"]) == 2
    assert f"outside a block, not this {cell}" in capsys.readouterr().err
