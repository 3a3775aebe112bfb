"""The campaign of messages: whichever message between the ranks of a training fails, all ranks end
in time with one message, and the same command with `--resume` ends with the same bits.

Two and three ranks train together; at each of their messages one rank is killed, stopped or late,
its message is lost or doubled, or its disk is full (`rank_faults.py`).
"""

import json
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, free_port, new_cache, started_forks, words
from rank_faults import KINDS, REQUESTS, TIMEOUT

from charlm.runs import checkpoint
from charlm.runs.directory import RunDirectory

CHANGES = [
    *(*TINY, "model.num_layers=2", "model.dropout=0.2", "model.hidden_size=40"),
    *("train.batch_size=6", "train.steps=6", "train.checkpoint_every=2", "train.eval_every=3"),
    *("train.sample_every=0", "train.backend=torch", "train.log_every=1"),
]
SIZES = (2, pytest.param(3, marks=pytest.mark.nightly))
SMALL = ("killed", "lost", "stopped", "full")
"""Kinds of which the small size takes one case."""
LIMIT = 3 * TIMEOUT + 15
"""Seconds in which all ranks must have ended: the processes take some to begin."""


@dataclass
class Training:
    """A training of several ranks that nothing disturbed.

    messages: the names of each rank's messages. tensors, rows: its results.
    """

    folder: Path
    size: int
    messages: list[list[str]]
    tensors: dict[str, torch.Tensor]
    rows: list[dict[str, Any]]


@dataclass
class End:
    """The end of a rank."""

    code: int
    said: str


def launched(
    folder: Path, size: int, kind: str = "", at: int = 0, bad: int = 0, *more: str
) -> tuple[list[End], list[list[str]]]:
    """Train as `size` ranks; return how each ended, and its messages if it ended by itself.

    kind, at: the fault on rank `bad`, see `rank_faults.main`.
    """
    forks = started_forks()
    forks.folder = folder
    port, processes = free_port(), []
    sets = [part for change in CHANGES for part in ("--set", change)]
    records = [folder / f"messages-{rank}" for rank in range(size)]
    for rank, record in enumerate(records):
        record.unlink(missing_ok=True)
        fault = (kind, at) if rank == bad else ("", 0)
        code = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import rank_faults; "
            f"rank_faults.main({fault[0]!r}, {fault[1]}, {str(record)!r})"
        )
        numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
        variables = {key: str(value) for key, value in numbers.items()}
        variables |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
        variables |= {"TORCH_CPP_LOG_LEVEL": "ERROR", "OMP_NUM_THREADS": "1"}
        given = ["train", "words.txt", "--run", "run", *sets, *more]
        processes.append(forks.open(*given, code=code, variables=variables))
    until = time.monotonic() + LIMIT
    ends = []
    try:
        for process in processes:
            process.wait(max(0.1, until - time.monotonic()))
            ends.append(End(process.returncode or 0, process.communicate()[1]))
    except subprocess.TimeoutExpired:
        raise AssertionError(f"not all ranks ended within {LIMIT} s") from None
    finally:
        for process in processes:
            process.kill()
    names = [json.loads(path.read_text()) if path.exists() else [] for path in records]
    return ends, names


def results(run: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Return the tensors of the last checkpoint, and the metrics but for their times."""
    saved = checkpoint.read(RunDirectory(run).find("latest"))
    lines = (run / "metrics.jsonl").read_text().splitlines()
    rows = [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]
    return {**{f"model.{k}": v for k, v in saved.weights.items()}, **saved.training()}, rows


@pytest.fixture(scope="module", params=SIZES)
def training(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, kernels_folder: Path
) -> Iterator[Training]:
    size = request.param
    folder = tmp_path_factory.mktemp(f"ranks-{size}")
    (folder / "words.txt").write_text(words(300), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARLM_CACHE", new_cache(tmp_path_factory, kernels_folder))
        ends, messages = launched(folder, size)
        assert [end.code for end in ends] == [0] * size, ends
        assert len({len(own) for own in messages[1:]}) == 1  # the leader asks the store for more
        tensors, rows = results(folder / "run")
        (folder / "run").rename(folder / "whole")
        yield Training(folder, size, messages, tensors, rows)


def cases(training: Training) -> list[tuple[str, int, int]]:
    """List every kind of fault, at every message, on every rank that it concerns."""
    listed = []
    for kind in KINDS:
        for rank, names in enumerate(training.messages):
            if kind == "full" and rank:
                continue  # only the leader writes
            listed += [
                (kind, rank, at)
                for at, name in enumerate(names, 1)
                if kind != "doubled" or name in REQUESTS
            ]
    return listed


def try_case(training: Training, kind: str, bad: int, at: int) -> None:
    """Disturb a training, and resume it. Raises: AssertionError for a broken promise."""
    folder, case = training.folder, (training.size, kind, bad, at)
    run = folder / "run"
    ends, _ = launched(folder, training.size, kind, at, bad)
    others = [end for rank, end in enumerate(ends) if rank != bad or not kind.startswith("killed")]
    for end in ends:
        assert "Traceback" not in end.said, (case, end)
        assert end.said.count("error: ") <= 1, (case, end)
    codes = [end.code for end in others]
    if kind.startswith("killed"):
        assert ends[bad].code == -signal.SIGKILL, (case, ends)
    if kind in ("lost", "stopped"):
        assert 75 in codes, (case, ends)
    if kind in ("late", "doubled"):
        assert {*codes} == {0}, (case, ends)
    elif kind == "full":
        assert {*codes} in ({1}, {0}), (case, ends)  # 0: nothing was left to be written
        assert sum(end.said.count("error: ") for end in ends) == codes[0], (case, ends)
    else:
        assert {*codes} <= {0, 75}, (case, ends)
    latest = run / "checkpoints" / "latest"
    step = int(latest.read_text().strip().removeprefix("step-")) if latest.exists() else 0
    assert step in (0, 2, 3, 4, 6), case  # every second one, and the best
    again, _ = launched(folder, training.size, "", 0, 0, "--resume")
    assert {end.code for end in again} == {0}, (case, ends, again)
    if step:
        assert re.search(rf"resuming \S*run\S* at step {step}\b", again[0].said), (case, again)
    tensors, rows = results(run)
    assert tensors.keys() == training.tensors.keys(), case
    for name, value in training.tensors.items():
        assert torch.equal(tensors[name], value), (case, name)
    assert rows == training.rows, case
    shutil.rmtree(run)


@pytest.mark.parametrize("kind", SMALL)
def test_message_that_fails_costs_no_result(training: Training, kind: str) -> None:
    listed = [case for case in cases(training) if case[0] == kind]
    try_case(training, *random.Random(kind).choice(listed))


@pytest.mark.nightly
def test_no_message_that_fails_costs_a_result(training: Training) -> None:
    listed, failed = cases(training), []
    for number, case in enumerate(listed, 1):
        shutil.rmtree(training.folder / "run", ignore_errors=True)
        try:
            try_case(training, *case)
        except AssertionError as error:
            failed.append(f"{case}: {error}")
            print(failed[-1], flush=True)
        if number % 20 == 0:
            print(f"{number} of {len(listed)}, {len(failed)} failed", flush=True)
    print(len(listed), "cases")
    assert not failed, "\n".join(failed)
