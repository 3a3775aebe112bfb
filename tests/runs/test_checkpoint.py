import hashlib
import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import saved_state, tiny_plan

from charlm.common.errors import CharlmError, CheckpointError, UsageError
from charlm.models.ngram import NGram
from charlm.runs import checkpoint, finding, ngram_file, tensor_file
from charlm.runs.checkpoint import MANIFEST, MODEL, STATE, TRAINING
from charlm.runs.directory import RunDirectory
from charlm.training import setup
from charlm.training.events import Saved


@pytest.fixture
def run(tmp_path: Path, text_file: Path) -> RunDirectory:
    """A finished tiny run with checkpoints of steps 6 and 12."""
    trainer, directory = setup.begin(tiny_plan(text_file), tmp_path / "run")
    saved = [event.step for event in trainer.train(directory) if isinstance(event, Saved)]
    assert saved == [6, 12]
    directory.unlock()
    return directory


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read(folder)
    assert caught.value.exit_code == 3
    assert caught.value.advice
    return caught.value.what


def test_checkpoint_stands_alone(run: RunDirectory, tmp_path: Path) -> None:
    copied = shutil.copytree(run.find("latest"), tmp_path / "elsewhere")
    saved = checkpoint.read(copied)
    assert saved.step == 12
    assert saved.config.model.hidden_size == 6
    assert len(saved.vocabulary) == saved.weights["head.weight"].shape[0]


def test_run_directory_holds_the_files_of_the_contract(run: RunDirectory) -> None:
    names = {path.name for path in run.path.iterdir() if not path.name.startswith(".")}
    assert names == {
        "config.toml",
        "metrics.jsonl",
        "summary.json",
        "vocabulary.json",
        "checkpoints",
    }
    folder = run.checkpoints / "step-00000012"
    assert {path.name for path in folder.iterdir()} == {MODEL, TRAINING, STATE, MANIFEST}
    assert (run.checkpoints / "latest").read_text() == "step-00000012\n"
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["files"][MODEL]["size"] == (folder / MODEL).stat().st_size


@pytest.mark.parametrize("name", [MODEL, TRAINING, STATE, MANIFEST])
def test_every_flipped_bit_is_found(run: RunDirectory, name: str) -> None:
    folder = run.find("latest")
    content = (folder / name).read_bytes()
    rng = random.Random(0)
    for _ in range(40):
        at, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
        flipped = bytearray(content)
        flipped[at] ^= bit
        (folder / name).write_bytes(flipped)
        try:
            saved = checkpoint.read(folder)
            saved.training()
        except CheckpointError:
            continue
        # Nothing but white space or the manifest's key order may go unnoticed.
        assert name == MANIFEST
        assert json.loads(flipped) == json.loads(content)
    (folder / name).write_bytes(content)
    checkpoint.read(folder).training()


@pytest.mark.parametrize("name", [MODEL, TRAINING, STATE, MANIFEST])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_missing_and_foreign_files_are_refused(
    run: RunDirectory, name: str, content: bytes | None
) -> None:
    folder = run.find("latest")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError):
        checkpoint.read(folder).training()


@pytest.mark.parametrize(
    "state",
    [
        b"{}",
        b"[]",
        b'{"config": 3}',
        b'{"config": "[train]\\nsteps=0", "vocabulary": {}, "step": 1}',
    ],
)
def test_foreign_state_is_refused_even_with_a_true_manifest(
    run: RunDirectory, state: bytes
) -> None:
    folder = run.find("latest")
    (folder / STATE).write_bytes(state)
    manifest = json.loads((folder / MANIFEST).read_text())
    digest = hashlib.sha256(state).hexdigest()
    manifest["files"][STATE] = {"size": len(state), "sha256": digest}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert "damaged" in refusal(folder)


def test_damage_names_another_checkpoint_of_the_run(run: RunDirectory) -> None:
    folder = run.find("latest")
    (folder / MODEL).write_bytes(b"x")
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read(folder)
    assert "step-00000006" in caught.value.advice


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no run"):
        finding.locate(tmp_path / "none")
    with pytest.raises(UsageError, match="there is no run in"):
        finding.locate(None, tmp_path)
    with pytest.raises(UsageError, match="is not a run"):
        finding.locate(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is not a run"):
        finding.locate(tmp_path / "file")


def test_pointers_lead_nowhere_outside_the_run(run: RunDirectory) -> None:
    (run.checkpoints / "latest").write_text("../../elsewhere")
    assert run.find("latest").name == "step-00000012"


def test_latest_run_is_the_one_saved_last(run: RunDirectory, tmp_path: Path) -> None:
    other = shutil.copytree(run.path, tmp_path / "another")
    os.utime(run.checkpoints / "latest", (1, 1))
    found, folder = finding.locate(None, tmp_path)
    assert (found.path, folder) == (other, None)


def test_taken_folder_is_refused_and_left_alone(tmp_path: Path, text_file: Path) -> None:
    planned = tiny_plan(text_file)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="not empty") as caught:
        setup.begin(planned, tmp_path / "taken")
    assert "--resume" in caught.value.advice
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["thesis.txt"]


def test_full_disk_keeps_the_checkpoints_before(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        path.write_bytes(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_synced", full)
    with pytest.raises(CharlmError, match="No space left") as caught:
        run.save(18, weights={"w": torch.zeros(3)}, training={}, state=saved_state(18), best=True)
    assert caught.value.exit_code == 1
    assert run.find("latest").name == "step-00000012"
    checkpoint.read(run.find("latest"))
    assert not list(run.checkpoints.glob(".writing-*"))
    assert not (run.checkpoints / "step-00000018").exists()


def test_two_trainers_cannot_have_one_run(run: RunDirectory) -> None:
    resumed = setup.resume(run.path, ["train.steps=20"])
    with pytest.raises(UsageError, match="another process"):
        setup.resume(run.path)
    resumed.run.unlock()


def test_last_two_and_the_best_are_kept(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.checkpoints.mkdir()
    for step in (1, 2, 3, 4, 5):
        directory.save(step, weights={}, training={}, state=saved_state(step), best=step == 2)
    kept = sorted(path.name for path in directory.checkpoints.glob("step-*"))
    assert kept == ["step-00000002", "step-00000004", "step-00000005"]
    assert directory.find("best").name == "step-00000002"
    assert directory.find("4").name == "step-00000004"
    with pytest.raises(UsageError, match="step-00000003"):
        directory.find("3")


def test_best_checkpoint_that_is_rewound_is_the_best_no_more(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.checkpoints.mkdir()
    for step in (1, 2):
        directory.save(step, weights={}, training={}, state=saved_state(step), best=step == 2)
    directory.rewind(1, best=None)
    names = sorted(path.name for path in directory.checkpoints.iterdir())
    assert names == ["latest", "step-00000001"]
    assert directory.find("best").name == "step-00000001"


def test_run_whose_checkpoints_are_all_damaged_has_none_to_go_on_from(
    run: RunDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in run.newest_first():
        (folder / MODEL).write_bytes(b"x")
    with pytest.raises(CheckpointError) as caught:
        run.newest_intact()
    assert caught.value.what == f"{run.path} has no intact checkpoint"
    assert "taking the newest" not in caplog.text


def test_run_that_another_process_has_just_saved_is_left_alone(
    run: RunDirectory, text_file: Path
) -> None:
    prepared = tiny_plan(text_file)
    before = (run.path / "summary.json").read_bytes()
    with pytest.raises(UsageError, match="has just been used by another process"):
        RunDirectory.create(run.path, prepared.config, prepared.corpus.vocabulary, anew=True)
    assert (run.path / "summary.json").read_bytes() == before
    assert run.find("latest").name == "step-00000012"
    run.lock()  # it was given back
    run.unlock()


def test_run_in_the_place_of_a_file_is_refused(tmp_path: Path, text_file: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(UsageError) as caught:
        setup.begin(tiny_plan(text_file), tmp_path / "run")
    assert caught.value.what == f"{tmp_path / 'run'} is a file, not the folder of a run"
    assert (tmp_path / "run").read_text() == "mine"


def test_run_was_changed_when_it_was_last_saved_or_else_begun(tmp_path: Path) -> None:
    assert finding.last_change(tmp_path / "run") == 0
    for at, name in enumerate((".", "checkpoints", "checkpoints/latest"), start=1):
        path = tmp_path / "run" / name
        path.touch() if name.endswith("latest") else path.mkdir()
        os.utime(path, (at, at))
        assert finding.last_change(tmp_path / "run") == at


def test_metrics_of_steps_to_come_and_torn_lines_are_dropped(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    for step in (1, 2, 3):
        directory.append_metrics({"step": step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2')
    directory.forget_metrics_after(2)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'


def test_tensors_are_written_as_the_library_reads_them(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    tensors = {
        f"{dtype}-{len(shape)}": (torch.randn(shape, generator=draw) * 9).to(dtype)
        for dtype in tensor_file.NAMES
        for shape in ((), (0,), (7,), (3, 5), (2, 3, 1001))
    }
    size, digest = tensor_file.write(tmp_path / "all", tensors)
    content = (tmp_path / "all").read_bytes()
    assert (size, digest) == (len(content), hashlib.sha256(content).hexdigest())
    found = safetensors.torch.load(content)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(found[name].view(-1), tensor.view(-1))
    tensor_file.write(tmp_path / "none", {})
    assert safetensors.torch.load((tmp_path / "none").read_bytes()) == {}


@pytest.mark.parametrize("more", [True, False])
def test_counts_with_other_tensors_or_none_are_refused(tmp_path: Path, more: bool) -> None:
    ngram_file.write(tmp_path, NGram.of(np.array([0, 1, 2, 0, 1] * 9), 3, order=2), "text")
    folder = tmp_path / ngram_file.FOLDER
    tensors = safetensors.torch.load((folder / ngram_file.COUNTS).read_bytes()) if more else {}
    (folder / ngram_file.COUNTS).unlink()
    if more:
        tensors["other"] = torch.zeros(3)
    size, digest = tensor_file.write(folder / ngram_file.COUNTS, tensors)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][ngram_file.COUNTS] = {"size": size, "sha256": digest}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="its tensors are not those of counts"):
        ngram_file.read(tmp_path, "text", 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_value_that_is_no_number_is_found(value: float) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        tensor = torch.randn(1001).to(dtype)
        assert checkpoint.is_finite(tensor)
        tensor[700] = value
        assert not checkpoint.is_finite(tensor)
    assert checkpoint.is_finite(torch.zeros(0))
