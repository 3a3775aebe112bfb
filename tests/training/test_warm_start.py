"""Training that begins with the weights of another run."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import TINY, words

import charlm
from charlm.__main__ import run
from charlm.text.vocabulary import Vocabulary
from charlm.training import warm_start
from charlm.training.events import Saved
from charlm.training.prepare import prepare_run
from charlm.training.request import request_run
from charlm.training.setup import begin
from charlm.training.source import choose_layers

SETTINGS = [
    part
    for change in [*TINY, "train.steps=300", "model.hidden_size=16", "train.eval_every=50"]
    for part in ("--set", change)
]
FIRST = ["train", "--data", "old.txt", *SETTINGS, "-q", "--run", "old"]
NEXT = ["train", "--data", "new.txt", "--init", "old", "--run", "new", "-q"]
QUICK = [
    part
    for change in ("train.steps=2", "train.warmup_steps=0", "train.learning_rate=1e-9")
    for part in ("--set", change)
]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two texts and a run on the first."""
    folder = tmp_path_factory.mktemp("begun")
    (folder / "old.txt").write_text(words(1500), encoding="utf-8")
    (folder / "new.txt").write_text("ZÖ" + words(600, seed=1) + "Öz!", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(FIRST) == 0
    return folder


@pytest.fixture(autouse=True)
def folder(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_symbols_keep_their_weights_and_new_ones_are_drawn() -> None:
    assert run([*NEXT, *QUICK]) == 0
    old, new = charlm.load("old"), charlm.load("new")
    assert old.model.embedding is not None
    assert new.model.embedding is not None
    for symbol in "the zq":
        one, other = (loaded.vocabulary.encode(symbol)[0] for loaded in (old, new))
        for found, expected in (
            (new.model.embedding.weight[other], old.model.embedding.weight[one]),
            (new.model.head.weight[other], old.model.head.weight[one]),
            (new.model.head.bias[other], old.model.head.bias[one]),
        ):
            assert torch.allclose(found, expected, atol=1e-6)
    assert old.vocabulary.encode("Z")[0] == old.vocabulary.unknown
    drawn = new.vocabulary.encode("Z")[0]
    assert new.model.head.bias[drawn].item() == pytest.approx(old.model.head.bias.min().item())
    for name, weights in old.model.cells.state_dict().items():
        assert torch.allclose(new.model.cells.state_dict()[name], weights, atol=1e-6)


def test_one_hot_inputs_are_matched_by_symbol(folder: Path) -> None:
    one_hot = ["--set", "model.embedding_size=0"]
    assert run([*FIRST[:-1], "one-hot", *one_hot]) == 0
    assert (
        run(["train", "--data", "new.txt", "--init", "one-hot", "--run", "new", "-q", *QUICK]) == 0
    )
    old, new = charlm.load("one-hot"), charlm.load("new")
    assert new.model.embedding is None
    for symbol in "the":
        columns = [
            loaded.model.cells[0].weight_ih[:, int(loaded.vocabulary.encode(symbol)[0])]  # type: ignore[union-attr, index]
            for loaded in (old, new)
        ]
        assert torch.allclose(*columns, atol=1e-6)


def test_small_text_is_learned_better_from_a_bigger_one(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    few = [*SETTINGS, "--set", "train.steps=10", "--json"]
    bits = []
    for more in (["--init", "old"], []):
        assert run(["train", "--data", "new.txt", *few, "--run", f"r{len(bits)}", "-q", *more]) == 0
        bits.append(json.loads(capsys.readouterr().out)["best"]["bits_per_character"])
    assert bits[0] < bits[1] - 0.5


def test_run_that_was_started_from_another_resumes_to_the_same_bits(folder: Path) -> None:
    command = [*NEXT, "--set", "train.steps=40", "--set", "train.checkpoint_every=10"]
    command += ["--set", "train.threads=1"]
    assert run(command) == 0
    last = folder / "new" / "checkpoints" / "step-00000040" / "model.safetensors"
    whole = last.read_bytes()
    layers = choose_layers(None, command[9::2], {"data.path": "new.txt", "train.start_from": "old"})
    trainer, directory = begin(prepare_run(request_run(layers)), folder / "stopped")
    for event in trainer.train(directory):
        if isinstance(event, Saved):
            trainer.stop()
    directory.unlock()
    assert trainer.learner.step < 40
    command[command.index("new")] = "stopped"
    shutil.rmtree(folder / "old")  # of no use any more
    assert run([*command, "--resume"]) == 0
    last = folder / "stopped" / "checkpoints" / "step-00000040" / "model.safetensors"
    assert last.read_bytes() == whole


def test_run_without_a_checkpoint_begins_anew_with_those_weights(folder: Path) -> None:
    assert run([*NEXT, *QUICK]) == 0
    model = folder / "new" / "checkpoints" / "step-00000002" / "model.safetensors"
    whole = model.read_bytes()
    for step in (folder / "new" / "checkpoints").iterdir():
        if step.is_dir():
            for file in step.iterdir():
                file.unlink()
            step.rmdir()
        else:
            step.unlink()
    assert run(["train", "--resume", "--run", "new", "-q"]) == 0
    assert model.read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("model.hidden_size=24", "hidden_size"),
        ("model.cell=gru", "cell"),
        ("data.unit=byte", "unit"),
    ],
)
def test_other_shape_is_refused_with_the_reason(
    capsys: pytest.CaptureFixture[str], folder: Path, change: str, said: str
) -> None:
    assert run([*NEXT, "--set", change]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("help: ") == 1
    assert not (folder / "new").exists()


def test_rows_are_those_of_the_same_symbols() -> None:
    old = Vocabulary("char", "none", tuple(map(ord, "ab\n")), has_unknown=True)
    for has_unknown, has_end, rows in (
        (False, False, [1, -1]),
        (True, False, [1, -1, 3]),
        (False, True, [1, -1, 2]),  # a line ends as a record does
        (True, True, [1, -1, 3, 2]),
    ):
        new = Vocabulary("char", "none", tuple(map(ord, "bc")), has_unknown, has_end)
        assert warm_start._rows(old, new).tolist() == rows


def test_missing_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*NEXT[:4], "nowhere", "--run", "new"]) == 2
    error = capsys.readouterr().err
    assert "there is no run" in error
    assert "nowhere" in error
