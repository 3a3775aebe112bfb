"""The campaign of kills: a run that is killed again and again, half of the times inside a save,
ends with the bits of one that lives; so does a comparison."""

import json
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from conftest import TINY, started_forks, words
from forks import Forks

from charlm.runs import checkpoint
from charlm.runs.directory import RunDirectory

STEPS = {5: 150, 100: 400}
"""By the number of kills; those of the kernels take less time, and there are more of them."""
MORE_BY_KERNELS = 6
# Checkpoints all the time, so that there are many to be killed in.
CHANGES = [
    *TINY,
    "train.checkpoint_every=3",
    "train.eval_every=50",
    "train.patience=0",
    "model.dropout=0.2",
    "train.weight_average=0.9",
]
CELLS = {
    "rnn": ["model.cell=rnn", "model.nonlinearity=relu"],
    "lstm": ["model.cell=lstm", "model.num_layers=2"],
    "gru": ["model.cell=gru", "model.hidden_size=32", "train.backend=native"],
}


def options(*changes: str) -> list[str]:
    return [part for change in changes for part in ("--set", change)]


@pytest.fixture
def forks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Forks:
    (tmp_path / "words.txt").write_text(words(1500), encoding="utf-8")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    forks = started_forks()
    forks.folder = tmp_path
    return forks


def final_tensors(path: Path, steps: int) -> dict[str, torch.Tensor]:
    saved = checkpoint.read(RunDirectory(path).find("latest"))
    assert saved.step == steps
    return {**{f"model.{k}": v for k, v in saved.weights.items()}, **saved.training()}


def wait_for_save(path: Path) -> bool:
    """Wait until a checkpoint is being written; tell whether one was seen."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if any(path.glob("checkpoints/.writing-*")):
            return True
    return False


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.nightly)])
def test_run_killed_again_and_again_ends_with_the_same_bits(
    forks: Forks, cell: str, kills: int, kernel_types: list[str]
) -> None:
    if cell == "gru" and not kernel_types:
        pytest.skip("no kernels can be built here")
    rng, folder = random.Random(cell), forks.folder
    whole, run = (folder / f"{cell}-{kills}-{name}" for name in ("whole", "killed"))
    steps = STEPS[kills] * (MORE_BY_KERNELS if cell == "gru" else 1)
    changes = [*CHANGES, *CELLS[cell], f"train.steps={steps}"]
    command = ["train", "--data", "words.txt", *options(*changes), "--quiet"]
    assert forks.run(*command, "--run", whole.name) == 0, forks.said()
    done, in_save, ended, again = 0, 0, 0, [*command, "--run", run.name, "--resume"]
    while done < kills:
        process = forks.start(*again)
        time.sleep(rng.uniform(0, 0.3))
        wanted = done % 2 == 0
        if wanted and wait_for_save(run):
            in_save += 1
            time.sleep(rng.uniform(0, 0.002))
        code = forks.kill(process)
        assert code in (0, -signal.SIGKILL), forks.said()
        done += code != 0
        ended += code == 0
        assert ended <= kills, "it ends before it can be killed: train it for more steps"
        if code == 0:  # so fast that it came to its end: the same once more, from its beginning
            expected, found = (final_tensors(path, steps) for path in (whole, run))
            assert all(torch.equal(value, found[name]) for name, value in expected.items())
            run = folder / f"{cell}-{kills}-killed-{done}"
            again = [*command, "--run", run.name, "--resume"]
    assert forks.run(*again) == 0, forks.said()
    assert in_save >= kills // 2
    expected, found = (final_tensors(path, steps) for path in (whole, run))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name
    assert not list((run / "checkpoints").glob(".writing-*"))
    rows = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows == sorted(rows)


@pytest.mark.parametrize("kills", [2, pytest.param(60, marks=pytest.mark.nightly)])
def test_comparison_killed_again_and_again_ends_with_the_same_numbers(
    forks: Forks, kills: int
) -> None:
    changes = [*TINY, "data.split=[0.7,0.2,0.1]", "train.checkpoint_every=10"]
    changes += [f"train.steps={300 if kills > 2 else 100}"]
    command = ["compare", "rnn", "gru", "--match", "hidden"]
    command += ["--tune", "--seeds", "2"] if kills > 2 else ["--seeds", "1"]
    command += [*options(*changes), "--data", "words.txt", "--quiet"]
    assert forks.run(*command, "--out", f"whole-{kills}") == 0, forks.said()
    rng, done, number, longest = random.Random(0), 0, 0, 4 if kills > 2 else 2
    while done < kills:
        process = forks.start(*command, "--out", f"compared-{kills}-{number}")
        time.sleep(rng.uniform(0.2, longest))
        code = forks.kill(process)
        assert code in (0, -signal.SIGKILL), forks.said()
        done += code != 0
        number += code == 0
    assert forks.run(*command, "--out", f"compared-{kills}-{number}") == 0, forks.said()
    whole = json.loads((forks.folder / f"whole-{kills}" / "compare.json").read_bytes())["rows"]
    for at in range(number + 1):
        found = json.loads((forks.folder / f"compared-{kills}-{at}" / "compare.json").read_bytes())[
            "rows"
        ]
        for was, now in zip(whole, found, strict=True):
            for key in ("learning_rate", "bits_per_character", "test_bits_per_character"):
                assert was[key] == now[key]
