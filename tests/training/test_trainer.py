import errno
import json
import logging
import math
import os
from pathlib import Path

import pytest
import torch
from conftest import saved_state, tiny_plan, words
from filelock import FileLock

from charlm.common.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DivergedError,
    UsageError,
)
from charlm.config.schema import Config
from charlm.distributed.ranks import Ranks
from charlm.models.dropout import WEIGHT_SEED_OFFSET
from charlm.runs import checkpoint
from charlm.runs.directory import RunDirectory
from charlm.training import divergence, footprint, setup
from charlm.training.events import Evaluated, Event, Finished, Saved, Trained
from charlm.training.learner import derived_seed
from charlm.training.trainer import Trainer

VARIANTS = [
    ["model.cell=rnn"],
    ["model.cell=rnn", "model.nonlinearity=relu", "model.initialization=kaiming"],
    ["model.cell=lstm", "model.num_layers=2", "model.dropout=0.3", "train.weight_average=0.9"],
    ["model.cell=lstm", "train.precision=bfloat16", "model.dropout=0.2"],
    ["model.cell=gru", "model.weight_dropout=0.4"],
    ["model.cell=gru", "model.reset_gate=after", "data.unit=byte", "data.minimum_count=1"],
    ["model.cell=gru", "model.reset_gate=before", "model.bias=false", "model.embedding_size=0"],
]


def events_of(trainer: Trainer, directory: RunDirectory, stop_at: int = 0) -> list[Event]:
    """Train; with `stop_at`, ask to stop once that step is logged."""
    found = []
    for event in trainer.train(directory):
        found.append(event)
        if isinstance(event, Trained) and event.step == stop_at:
            trainer.stop()
    directory.unlock()
    return found


def summary_of(events: list[Event]) -> dict[str, object]:
    assert isinstance(events[-1], Finished)
    return events[-1].summary


def metrics_of(directory: RunDirectory) -> list[dict[str, object]]:
    rows = [
        json.loads(line) for line in (directory.path / "metrics.jsonl").read_text().splitlines()
    ]
    for row in rows:
        del row["seconds"]  # of the clock, the one thing that cannot repeat
    return rows


def tensors_of(directory: RunDirectory) -> dict[str, torch.Tensor]:
    saved = checkpoint.read(directory.find("latest"))
    return {**{f"model.{k}": v for k, v in saved.weights.items()}, **saved.training()}


@pytest.mark.parametrize("changes", VARIANTS, ids=lambda c: " ".join(c))
@pytest.mark.parametrize("stop_at", [4, 8])
def test_stopped_and_resumed_run_ends_with_the_same_bits(
    tmp_path: Path, text_file: Path, changes: list[str], stop_at: int
) -> None:
    text_file.write_text(words(200), encoding="utf-8")  # so short that the lanes begin anew
    whole, whole_run = setup.begin(tiny_plan(text_file, *changes), tmp_path / "whole")
    events_of(whole, whole_run)
    first, broken_run = setup.begin(tiny_plan(text_file, *changes), tmp_path / "broken")
    assert summary_of(events_of(first, broken_run, stop_at))["stopped_by"] == "signal"
    resumed = setup.resume(tmp_path / "broken")
    assert resumed.differences == []
    assert resumed.step == stop_at + 1
    events_of(resumed.trainer, resumed.run)
    expected, found = tensors_of(whole_run), tensors_of(broken_run)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name
    assert metrics_of(broken_run) == metrics_of(whole_run)


def test_a_signal_in_a_step_with_an_evaluation_loses_neither(
    tmp_path: Path, text_file: Path
) -> None:
    whole, whole_run = setup.begin(tiny_plan(text_file), tmp_path / "whole")
    events_of(whole, whole_run)
    first, broken_run = setup.begin(tiny_plan(text_file), tmp_path / "broken")
    take_step = first.learner.take_step

    def interrupted() -> torch.Tensor:
        if first.learner.step == 5:  # evaluations come at 6 and 12
            first.stop()
        return take_step()

    first.learner.take_step = interrupted  # type: ignore[method-assign]
    assert summary_of(events_of(first, broken_run))["stopped_by"] == "signal"
    resumed = setup.resume(tmp_path / "broken")
    assert resumed.step == 6
    events_of(resumed.trainer, resumed.run)
    assert metrics_of(broken_run) == metrics_of(whole_run)
    assert [row["step"] for row in metrics_of(broken_run) if row["kind"] == "eval"] == [6, 12]


def test_run_killed_between_checkpoints_resumes_to_the_same_bits(
    tmp_path: Path, text_file: Path
) -> None:
    whole, whole_run = setup.begin(tiny_plan(text_file), tmp_path / "whole")
    events_of(whole, whole_run)
    killed, killed_run = setup.begin(tiny_plan(text_file), tmp_path / "killed")
    for event in killed.train(killed_run):
        if isinstance(event, Trained) and event.step == 8:
            break  # as if the process had died: nothing more is written
    killed_run.unlock()
    resumed = setup.resume(tmp_path / "killed")
    assert resumed.step == 6
    events_of(resumed.trainer, resumed.run)
    for name, value in tensors_of(whole_run).items():
        assert torch.equal(value, tensors_of(killed_run)[name]), name
    assert metrics_of(killed_run) == metrics_of(whole_run)


def test_kill_between_the_pointers_of_a_checkpoint_does_not_lose_the_best(
    tmp_path: Path, text_file: Path
) -> None:
    trainer, directory = setup.begin(tiny_plan(text_file), tmp_path / "run")
    summary = summary_of(events_of(trainer, directory))
    assert directory.find("best").name == directory.find("latest").name == "step-00000012"
    # As a kill leaves it after `latest` is written: `best` is the one before, no summary.
    (directory.checkpoints / "best").write_text("step-00000006\n")
    (directory.path / "summary.json").unlink()
    resumed = setup.resume(directory.path)
    assert summary_of(events_of(resumed.trainer, resumed.run))["best"] == summary["best"]
    assert directory.find("best").name == "step-00000012"


def test_run_resumed_from_an_earlier_checkpoint_takes_its_steps_again(
    tmp_path: Path, text_file: Path
) -> None:
    trainer, directory = setup.begin(tiny_plan(text_file), tmp_path / "run")
    events_of(trainer, directory)
    expected = tensors_of(directory)
    resumed = setup.resume(directory.find("6"))
    events_of(resumed.trainer, resumed.run)
    for name, value in expected.items():
        assert torch.equal(value, tensors_of(directory)[name])


def test_training_learns_and_reports_what_the_contract_promises(
    tmp_path: Path, text_file: Path
) -> None:
    planned = tiny_plan(
        text_file,
        "model.hidden_size=48",
        "train.steps=200",
        "train.batch_size=8",
        "train.sequence_length=20",
        "train.eval_every=100",
        "train.checkpoint_every=100",
    )
    trainer, directory = setup.begin(planned, tmp_path / "run")
    events = events_of(trainer, directory)
    evaluated = [event for event in events if isinstance(event, Evaluated)]
    assert evaluated[-1].bits_per_character < 2.0 < math.log2(len(planned.corpus.vocabulary))
    summary = summary_of(events)
    assert set(summary) == {
        "run",
        "cell",
        "parameters",
        "recurrent_parameters",
        "vocabulary_size",
        "steps",
        "characters",
        "seconds",
        "characters_per_second",
        "peak_memory_bytes",
        "best",
        "device",
        "precision",
        "threads",
        "backend",
        "stopped_by",
    }
    assert summary["characters"] == 200 * 8 * 20
    assert summary == json.loads((directory.path / "summary.json").read_text())
    rows = [
        json.loads(line) for line in (directory.path / "metrics.jsonl").read_text().splitlines()
    ]
    common = {"kind", "step", "characters", "seconds", "loss", "bits_per_character"}
    for row in rows:
        extra = {"train": {"learning_rate", "gradient_norm"}, "eval": set(), "sample": {"text"}}
        assert set(row) == common | extra[row["kind"]]
        assert row["bits_per_character"] == pytest.approx(row["loss"] / math.log(2))


def test_bits_are_of_source_characters_whatever_the_unit(tmp_path: Path) -> None:
    path = tmp_path / "korean.txt"
    path.write_text("한국어 글을 배우는 작은 모형입니다.\n" * 60, encoding="utf-8")
    for unit in ("char", "jamo", "byte"):
        changes = [f"data.unit={unit}", "data.minimum_count=1"]
        trainer, directory = setup.begin(tiny_plan(path, *changes), tmp_path / unit)
        row = next(e for e in events_of(trainer, directory) if isinstance(e, Evaluated))
        split = trainer.corpus.splits["validation"]
        ratio = len(split) / split.characters
        assert ratio == pytest.approx({"char": 1, "jamo": 2.05, "byte": 2.4}[unit], abs=0.2)
        assert row.bits_per_character == pytest.approx(row.loss / math.log(2) * ratio)


def test_seed_decides_the_run(tmp_path: Path, text_file: Path) -> None:
    losses = []
    for number, seed in enumerate((1, 1, 2)):
        planned = tiny_plan(text_file, f"train.seed={seed}")
        trainer, directory = setup.begin(planned, tmp_path / str(number))
        losses.append(summary_of(events_of(trainer, directory))["best"])
    assert losses[0] == losses[1] != losses[2]


def test_target_ends_the_run_at_an_evaluation_that_reaches_it(
    tmp_path: Path, text_file: Path
) -> None:
    changes = [
        "train.target_bits_per_character=4.5",
        "train.steps=500",
        "train.eval_every=100",
        "train.learning_rate=0.02",
        "train.log_every=1",
    ]
    trainer, directory = setup.begin(tiny_plan(text_file, *changes), tmp_path / "run")
    events = events_of(trainer, directory)
    summary = summary_of(events)
    assert summary["stopped_by"] == "target"
    reached = [e for e in events if isinstance(e, Evaluated)][-1]
    assert reached.bits_per_character <= 4.5
    assert reached.step < 100  # checked as soon as the training loss was there
    assert checkpoint.read(directory.find("best")).step == reached.step


def test_time_budget_ends_the_run_and_counts_across_a_resume(
    tmp_path: Path, text_file: Path
) -> None:
    changes = [
        "train.seconds=0.05",
        "train.steps=1000000",
        "train.eval_every=1000000",
        "train.checkpoint_every=1000000",
    ]
    trainer, directory = setup.begin(tiny_plan(text_file, *changes), tmp_path / "run")
    first = summary_of(events_of(trainer, directory))
    assert first["stopped_by"] == "time"
    resumed = setup.resume(directory.path, ["train.seconds=0.1"])
    second = summary_of(events_of(resumed.trainer, resumed.run))
    assert second["seconds"] >= 0.1
    assert second["steps"] > first["steps"]  # type: ignore[operator]


def test_finished_run_resumes_to_its_end_and_longer_if_told(
    tmp_path: Path, text_file: Path
) -> None:
    trainer, directory = setup.begin(tiny_plan(text_file), tmp_path / "run")
    events_of(trainer, directory)
    again = setup.resume(directory.path)
    assert [type(e) for e in events_of(again.trainer, again.run)] == [Finished]
    longer = setup.resume(directory.path, ["train.steps=20"])
    assert summary_of(events_of(longer.trainer, longer.run))["steps"] == 20
    assert "steps = 20" in (directory.path / "config.toml").read_text()


def test_divergence_is_an_error_that_keeps_the_last_good_checkpoint(
    tmp_path: Path, text_file: Path
) -> None:
    trainer, directory = setup.begin(tiny_plan(text_file), tmp_path / "run")

    def spoil(event: Event) -> None:
        if isinstance(event, Saved):
            trainer.learner.model.head.bias.data.fill_(math.nan)

    with pytest.raises(DivergedError) as caught:
        list(map(spoil, trainer.train(directory)))
    assert caught.value.exit_code == 4
    assert "step 8" in caught.value.what
    directory.unlock()
    saved = checkpoint.read(directory.find("latest"))
    assert saved.step == 6
    assert all(value.isfinite().all() for value in saved.weights.values())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([], "validation loss nan"),
        (["train.eval_every=100"], "head.bias has values that are no finite numbers"),
    ],
    ids=["evaluated", "saved"],
)
def test_average_that_is_no_number_is_noticed_before_it_is_saved(
    tmp_path: Path, text_file: Path, changes: list[str], said: str
) -> None:
    prepared = tiny_plan(text_file, "train.weight_average=0.9", *changes)
    trainer, directory = setup.begin(prepared, tmp_path / "run")

    def spoil(event: Event) -> None:
        if isinstance(event, Trained) and event.step == 4:
            trainer.learner.eval_model.head.bias.data.fill_(math.nan)

    with pytest.raises(DivergedError) as caught:
        list(map(spoil, trainer.train(directory)))
    assert caught.value.what == f"training diverged at step 6: {said}"
    assert not directory.has_checkpoints()
    directory.unlock()


def test_run_whose_checkpoints_diverge_again_is_begun_anew(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    assert divergence.advice(directory, good=False).startswith("begin again: the same command")
    directory.checkpoints.mkdir()
    directory.save(1, weights={}, training={}, state=saved_state(1), best=True)
    assert divergence.advice(directory, good=True).startswith("go on from the last good")
    assert divergence.advice(directory, good=False) == (
        f"begin another run with a lower train.learning_rate; {tmp_path} has its checkpoints"
    )


def test_large_model_is_announced_before_it_is_drawn(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "charlm")
    monkeypatch.setattr(footprint, "LARGE", 1000)
    for hidden_size, is_large in ((5, False), (50, True)):
        config = Config.model_validate(
            {
                "model": {"hidden_size": hidden_size, "embedding_size": 2, "num_layers": 1},
                "train": {"sequence_length": 5},
            }
        )
        footprint.refuse_too_large(config, 5, torch.device("cpu"), lanes=3)
        assert ("to draw the weights takes a while" in caplog.text) == is_large
    assert caplog.messages[0].startswith("training 1 x 50 units on windows of 3 x 5 takes ")


def test_run_that_cannot_be_locked_leaves_no_folder_of_its_own_name(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    prepared = tiny_plan(text_file)
    monkeypatch.setattr(FileLock, "acquire", refused)
    (tmp_path / "named").mkdir()
    for path in (None, tmp_path / "named"):
        with pytest.raises(UsageError, match=os.strerror(errno.ENOLCK)):
            setup._new_directory(prepared, path)
    assert list((tmp_path / "runs").iterdir()) == []
    assert (tmp_path / "named").is_dir()


def test_run_without_checkpoint_and_configuration_is_begun_only_by_its_command(
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    with pytest.raises(CheckpointError) as caught:
        setup.resume(run)
    assert caught.value.what == f"{run} has neither a checkpoint nor a configuration"
    RunDirectory(run).lock()  # it was given back


def test_configuration_that_cannot_be_read_is_not_a_missing_one(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.toml").write_bytes(b"\xff")
    with pytest.raises(CheckpointError) as caught:
        setup.resume(run)
    assert caught.value.what == f"{run / 'config.toml'} cannot be read: it is not in UTF-8"
    assert caught.value.advice == "check its permissions, or use a copy of it"
    (run / "config.toml").unlink()
    (run / "config.toml").mkdir()
    with pytest.raises(CheckpointError) as caught:
        setup.resume(run)
    assert "config.toml cannot be read: " in caught.value.what


def test_rank_that_does_not_see_the_run_says_which_it_is(tmp_path: Path) -> None:
    ranks = Ranks(rank=1, size=2)
    following = setup._Resumption([], None, lambda config: None, ranks)
    with pytest.raises(UsageError) as caught:
        following.follow(RunDirectory(tmp_path / "run"), "")
    assert caught.value.what == f"rank 1 does not see the run {tmp_path / 'run'} of rank 0"


def test_resume_refuses_another_text_and_settings_that_cannot_change(
    tmp_path: Path, text_file: Path
) -> None:
    trainer, directory = setup.begin(tiny_plan(text_file), tmp_path / "run")
    events_of(trainer, directory)
    for change in ("model.hidden_size=7", "train.batch_size=4", "train.seed=9"):
        with pytest.raises(UsageError, match="cannot change"):
            setup.resume(directory.path, [change])
    with pytest.raises(ConfigError):
        setup.resume(directory.path, ["train.stepz=3"])
    text_file.write_text(words(1500, seed=9), encoding="utf-8")
    with pytest.raises(DataError, match="has changed"):
        setup.resume(directory.path)
    text_file.write_text(words(1500), encoding="utf-8")
    resumed = setup.resume(directory.path)  # the lock was given back each time
    resumed.run.unlock()


def test_errors_before_the_first_step_leave_no_folder(tmp_path: Path, text_file: Path) -> None:
    planned = tiny_plan(text_file, "train.sequence_length=60000")
    with pytest.raises(DataError, match="one step"):
        setup.begin(planned, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_evaluation_in_parallel_is_within_a_thousandth_of_a_bit_of_one_lane(
    tmp_path: Path, text_file: Path
) -> None:
    from charlm.evaluation.surprisal import evaluate

    text_file.write_text(words(12_000), encoding="utf-8")
    planned = tiny_plan(
        text_file,
        "model.hidden_size=32",
        "train.steps=60",
        "train.batch_size=16",
        "train.learning_rate=0.02",
        "data.split=[0.5, 0.5, 0.0]",
        "data.held_out_limit=0",
    )
    trainer, directory = setup.begin(planned, tmp_path / "run")
    events_of(trainer, directory)
    computation, corpus = trainer.learner.evaluation, trainer.corpus
    bits = [
        evaluate(computation, corpus, "validation", lanes=lanes)[1].bits_per_character
        for lanes in (1, 64)
    ]
    assert abs(bits[0] - bits[1]) < 0.001


def test_dropout_seeds_differ_by_seed_step_and_layer() -> None:
    offsets = (*range(4), *range(WEIGHT_SEED_OFFSET, WEIGHT_SEED_OFFSET + 4), 255)
    seeds = {derived_seed(s, t) + one for s in (0, 1) for t in range(50) for one in offsets}
    assert len(seeds) == 900


@pytest.mark.parametrize("device", ["cuda", "mps"])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_accelerators_learn_what_the_processor_learns(
    tmp_path: Path, text_file: Path, device: str, cell: str
) -> None:
    available = {"cuda": torch.cuda.is_available(), "mps": torch.mps.is_available()}
    if not available[device]:
        pytest.skip(f"there is no {device} device here")
    losses = []
    for name in ("cpu", device):
        planned = tiny_plan(text_file, f"model.cell={cell}", f"train.device={name}")
        trainer, directory = setup.begin(planned, tmp_path / name)
        losses.append(summary_of(events_of(trainer, directory))["best"]["loss"])  # type: ignore[index]
    # Float32 sums in another order, through twelve steps of a tiny model.
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
