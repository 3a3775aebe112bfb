"""Losses that charlm prevents: small cases of those that tests/campaigns tries at length."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from conftest import TINY, charlm, saved_state, tiny_plan, words

from charlm.__main__ import run
from charlm.common import memory
from charlm.common.errors import CheckpointError, DataError, UsageError
from charlm.config.schema import DataConfig, SampleConfig
from charlm.evaluation import scoring
from charlm.models.recurrent import CharModel
from charlm.runs import checkpoint
from charlm.runs.directory import RunDirectory
from charlm.sampling.generate import Draw, Generation
from charlm.text.files import sources
from charlm.training import setup


def trained(path: Path, text: Path, *changes: str) -> RunDirectory:
    trainer, begun = setup.begin(tiny_plan(text, *changes), path)
    for _ in trainer.train(begun):
        pass
    begun.unlock()
    return begun


# ---- resumed from an earlier step ---------------------------------------------------------------


def test_a_run_rewound_and_killed_before_its_next_save_goes_on(
    tmp_path: Path, text_file: Path
) -> None:
    done = trained(tmp_path / "run", text_file)
    whole = checkpoint.read(done.find("latest")).weights
    resumed = setup.resume(done.checkpoints / "step-00000006")
    resumed.run.unlock()  # killed here: nothing was trained, later checkpoints are gone
    assert done.find("latest").name == "step-00000006"
    again = setup.resume(done.path)
    assert again.step == 6
    for _ in again.trainer.train(again.run):
        pass
    again.run.unlock()
    found = checkpoint.read(done.find("latest")).weights
    assert all(torch.equal(value, found[name]) for name, value in whole.items())


def test_latest_is_moved_back_before_anything_is_removed(tmp_path: Path, text_file: Path) -> None:
    done = trained(tmp_path / "run", text_file)
    later = shutil.copytree(done.checkpoints / "step-00000012", tmp_path / "kept")
    done.rewind(6, best=6)
    shutil.copytree(later, done.checkpoints / "step-00000012")  # a kill came before its removal
    assert done.find("latest").name == done.find("best").name == "step-00000006"


def test_a_renamed_or_linked_checkpoint_is_refused(tmp_path: Path, text_file: Path) -> None:
    done = trained(tmp_path / "run", text_file)
    shutil.copytree(done.find("latest"), done.checkpoints / "step-00000099")
    with pytest.raises(CheckpointError, match="has been renamed"):
        checkpoint.read(done.checkpoints / "step-00000099")
    (tmp_path / "elsewhere").symlink_to(done.find("latest"))
    with pytest.raises(CheckpointError, match="symbolic link"):
        checkpoint.read(tmp_path / "elsewhere")


def test_nothing_is_written_through_a_link_in_a_strangers_run(
    tmp_path: Path, text_file: Path
) -> None:
    done = trained(tmp_path / "run", text_file)
    precious = tmp_path / "precious.txt"
    precious.write_text("years of work")
    for name in (".summary.json.writing", ".metrics.jsonl.writing", "checkpoints/.latest.writing"):
        (done.path / name).symlink_to(precious)
    resumed = setup.resume(done.path, ["train.steps=20"])
    for _ in resumed.trainer.train(resumed.run):
        pass
    resumed.run.unlock()
    assert precious.read_text() == "years of work"


# ---- what is read -------------------------------------------------------------------------------


def test_a_sub_folder_that_cannot_be_read_is_named() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "open.txt").write_text("some text")
        (Path(folder) / "closed").mkdir(mode=0o000)
        if os.geteuid():
            with pytest.raises(DataError, match="closed"):
                sources.find(DataConfig(path=folder))
            return
        child = os.fork()  # root reads everything: somebody else has to try
        if not child:
            os.setuid(65534)
            try:
                sources.find(DataConfig(path=folder))
            except DataError as error:
                os._exit(7 if "closed" in error.what and "Permission" in error.what else 1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize("argument", [["--data", ""], ["--set", 'data.path=["hello.txt", ""]']])
def test_an_empty_name_is_not_taken_for_none(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argument: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["train", *argument]) == 2
    assert "is empty" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_newline_in_a_name_forges_no_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["train", "--data", "x\nerror: all is lost\nhelp: send money"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error", "help"]


# ---- too large ----------------------------------------------------------------------------------


FIGURES = r"needs at least [\d.,]+ [GT]B of memory, [\d.,]+ [MG]B are free"

told_its_memory = pytest.mark.skipif(
    memory.available() is None, reason="this system does not tell how much memory is free"
)


@told_its_memory
def test_a_model_that_does_not_fit_is_refused_before_it_is_made(
    tmp_path: Path, text_file: Path
) -> None:
    changes = ["model.hidden_size=16384", "model.num_layers=32"]
    with pytest.raises(UsageError, match=FIGURES):
        setup.begin(tiny_plan(text_file, *changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@told_its_memory
def test_more_texts_than_fit_are_refused(tmp_path: Path, text_file: Path) -> None:
    saved = checkpoint.read(trained(tmp_path / "run", text_file).find("best"))
    model = CharModel.from_weights(saved.config.model, len(saved.vocabulary), saved.weights)
    with pytest.raises(UsageError, match=f"1,000,000,000 texts of 50 symbols {FIGURES}"):
        Generation(model, saved.vocabulary, SampleConfig(length=50), draw=Draw(num=10**9))


def test_a_text_scored_in_segments_has_the_score_of_the_whole(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = checkpoint.read(trained(tmp_path / "run", text_file).find("best"))
    model = CharModel.from_weights(saved.config.model, len(saved.vocabulary), saved.weights)
    text, vocabulary = words(900, seed=5), saved.vocabulary
    pieces = [text[at : at + 37] for at in range(0, len(text), 37)]
    for window in (0, 10):
        whole = scoring.score_text(model, vocabulary, text, window).score
        with monkeypatch.context() as patch:
            patch.setattr(scoring, "SEGMENT", 500)
            cut = scoring.score_pieces(scoring.network(model), vocabulary, pieces, window)
        assert (cut.symbols, cut.characters, cut.bytes) == (
            *(whole.symbols, whole.characters, whole.bytes),
        )
        # Windows are the same ones; lanes begin elsewhere, after a warm-up.
        assert cut.nats == pytest.approx(whole.nats, rel=1e-6 if window else 1e-3)


@pytest.mark.parametrize("temperature", [1e-7, 1e-38, 5e-324])
def test_the_coldest_temperatures_are_zero(
    tmp_path: Path, text_file: Path, temperature: float
) -> None:
    saved = checkpoint.read(trained(tmp_path / "run", text_file).find("best"))
    model = CharModel.from_weights(saved.config.model, len(saved.vocabulary), saved.weights)
    texts = [
        "".join(Generation(model, saved.vocabulary, SampleConfig(length=50, temperature=value)))
        for value in (0.0, temperature)
    ]
    assert texts[0] == texts[1]


# ---- a start ------------------------------------------------------------------------------------


def test_no_command_imports_torchs_compiler(tmp_path: Path) -> None:
    """It takes seconds, and sneaks in where a layer is made on the meta device."""
    code = (
        "import sys; from charlm.__main__ import run; "
        "assert run(['train', '-q', '--set', 'train.steps=3']) == 0; "
        "assert run(['train', '-q', '--resume', '--set', 'train.steps=5']) == 0; "
        "assert run(['sample', '--length', '3']) == 0; "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_same_command_with_resume_begins_what_was_never_begun(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text(words(1500), encoding="utf-8")
    settings = [part for change in TINY for part in ("--set", change)]
    command = ["train", "words.txt", *settings, "--run", "mine", "--resume", "--json"]
    done = charlm(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "there is no run mine: beginning one" in done.stderr
    assert json.loads(done.stdout)["steps"] == 12
    (tmp_path / "empty").mkdir()  # a kill came right behind its making
    assert charlm(*command, "--run", "empty", cwd=tmp_path).returncode == 0


def test_a_run_stopped_before_its_first_step_is_saved_and_goes_on(
    tmp_path: Path, text_file: Path
) -> None:
    whole = checkpoint.read(trained(tmp_path / "whole", text_file).find("latest")).weights
    trainer, begun = setup.begin(tiny_plan(text_file), tmp_path / "run")
    trainer.stop()
    for _ in trainer.train(begun):
        pass
    begun.unlock()
    assert begun.find("latest").name == "step-00000000"
    resumed = setup.resume(begun.path)
    for _ in resumed.trainer.train(resumed.run):
        pass
    resumed.run.unlock()
    found = checkpoint.read(begun.find("latest")).weights
    assert all(torch.equal(value, found[name]) for name, value in whole.items())


def test_steps_of_nine_digits_are_later_than_those_of_eight(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.checkpoints.mkdir()
    for step in (99_999_990, 99_999_999, 100_000_000, 100_000_001):
        run.save(step, weights={}, training={}, state=saved_state(step), best=False)
    names = ["step-100000001", "step-100000000"]
    assert [folder.name for folder in run.newest_first()] == names


def test_a_fifo_in_a_checkpoints_place_is_not_waited_for(tmp_path: Path, text_file: Path) -> None:
    done = trained(tmp_path / "run", text_file)
    shutil.rmtree(done.checkpoints / "step-00000006")
    for name in ("step-00000006", "step-00000099", ".writing-x"):
        os.mkfifo(done.checkpoints / name)
    resumed = setup.resume(done.path, ["train.steps=20"])
    for _ in resumed.trainer.train(resumed.run):
        pass
    resumed.run.unlock()
    assert done.find("latest").name == "step-00000020"


def test_weights_that_predict_no_numbers_are_refused(tmp_path: Path, text_file: Path) -> None:
    saved = checkpoint.read(trained(tmp_path / "run", text_file).find("best"))
    weights = {name: value.sign() * 3e38 for name, value in saved.weights.items()}
    model = CharModel.from_weights(saved.config.model, len(saved.vocabulary), weights)
    with pytest.raises(CheckpointError, match="grown out of bounds"):
        scoring.score_text(model, saved.vocabulary, "the lazy dog")
    with pytest.raises(CheckpointError, match="grown out of bounds"):
        list(Generation(model, saved.vocabulary, SampleConfig(length=20)))
