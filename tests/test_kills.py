"""The campaign of kills: a run that dies again and again ends with the bits of one that lives."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import TINY, charlm, words

from charlm.runs import checkpoint
from charlm.runs.directory import RunDirectory

KILLS = 40


def final_tensors(path: Path) -> dict[str, torch.Tensor]:
    saved = checkpoint.read(RunDirectory(path).find("latest"))
    return {**{f"model.{k}": v for k, v in saved.weights.items()}, **saved.training()}


@pytest.mark.nightly
def test_run_killed_again_and_again_ends_with_the_same_bits(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text(words(1500), encoding="utf-8")
    # Checkpoints all the time, so that kills fall into their writing.
    changes = [
        *TINY,
        "train.steps=4000",
        "train.checkpoint_every=2",
        "train.eval_every=50",
        "model.dropout=0.2",
        "train.weight_average=0.9",
    ]
    options = [part for change in changes for part in ("--set", change)]
    begin = ["train", "--data", "words.txt", *options, "--quiet", "--json"]
    assert charlm(*begin, "--run", "whole", cwd=tmp_path).returncode == 0
    rng, kills = random.Random(0), 0
    command = [*begin, "--run", "killed"]
    while kills < KILLS:
        with subprocess.Popen(
            [sys.executable, "-m", "charlm", *command],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            latest = tmp_path / "killed" / "checkpoints" / "latest"
            while not latest.exists() and process.poll() is None:
                time.sleep(0.01)
            time.sleep(rng.uniform(1.0, 4.0))
            alive = process.poll() is None
            process.kill()
            _, err = process.communicate()
        assert alive or process.returncode == 0, err
        kills += alive
        if not alive:
            break
        command = ["train", "--resume", "--run", "killed", "--quiet", "--json"]
    done = charlm("train", "--resume", "--run", "killed", "--quiet", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 4000
    assert kills >= 5
    expected, found = final_tensors(tmp_path / "whole"), final_tensors(tmp_path / "killed")
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name
    assert not list((tmp_path / "killed" / "checkpoints").glob(".writing-*"))


@pytest.mark.nightly
def test_comparison_killed_again_and_again_ends_with_the_same_numbers(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text(words(1500), encoding="utf-8")
    changes = [*TINY, "data.split=[0.7,0.2,0.1]", "train.steps=600", "train.checkpoint_every=20"]
    options = [part for change in changes for part in ("--set", change)]
    begin = ["compare", "rnn", "gru", "--match", "hidden", "--tune", "--seeds", "2", *options]
    begin += ["--data", "words.txt", "--quiet", "--json"]
    whole = charlm(*begin, "--out", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    rng, kills, alive = random.Random(0), 0, True
    while alive:
        with subprocess.Popen(
            [sys.executable, "-m", "charlm", *begin, "--out", "killed"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                out, err = process.communicate(timeout=rng.uniform(2.0, 6.0))
                alive = False
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                kills += 1
    assert process.returncode == 0, err
    assert kills >= 5
    for was, now in zip(json.loads(whole.stdout)["rows"], json.loads(out)["rows"], strict=True):
        for key in ("learning_rate", "bits_per_character", "test_bits_per_character"):
            assert was[key] == now[key]
