"""Several processes train one model: as one process with all lanes, whatever happens to them."""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import TINY, begun, charlm, free_port, new_cache, words
from torch.distributed import HashStore

from charlm.cli import worker
from charlm.cli.arguments import TrainArguments
from charlm.common.errors import UsageError
from charlm.config import loading
from charlm.config.layers import ConfigLayers
from charlm.distributed import error_exchange, launch_state
from charlm.distributed.rank_errors import LostError, ReportedError
from charlm.distributed.ranks import ALONE, Ranks
from charlm.distributed.start import join
from charlm.evaluation.surprisal import evaluate
from charlm.runs import checkpoint
from charlm.runs.directory import RunDirectory
from charlm.training import setup
from charlm.training.events import Trained
from charlm.training.lanes import groups_of
from charlm.training.prepare import prepare_run
from charlm.training.request import request_run
from charlm.training.trainer import Trainer

COMMON = (
    *("model.num_layers=2", "model.dropout=0.3", "train.state_reset=0.4", "train.batch_size=4"),
    "model.weight_dropout=0.2",
    *("train.weight_average=0.9", "train.sample_every=0", "train.log_every=1"),
)
NATIVE = (*COMMON, "model.hidden_size=40", "train.backend=native")
TORCH = (*COMMON, "model.cell=gru", "train.backend=torch")
VARIANTS = {
    "native": NATIVE,
    "torch": TORCH,
    "accumulated": (*NATIVE, "train.batch_size=2", "train.accumulate=2"),
    "rounded": (*NATIVE, "train.reduce=bfloat16"),
    "stopped": NATIVE,
    "long": (*NATIVE, "train.steps=400", "train.checkpoint_every=20", "train.eval_every=100"),
}
STOPPED_AT = 7
PROMPT = 5
"""Seconds to end in while nothing is to be saved: half a second, but for a busy machine."""
CLOSE = {"rtol": 1e-3, "atol": 2e-5}
"""Sums in another order differ in the last bits; Adam divides by the size of a gradient, so that
after a dozen steps of 0.005 weights with hardly any differ by a few thousandths of a step."""


def layers_of(text: Path, changes: tuple[str, ...]) -> ConfigLayers:
    return loading.load("default", [*TINY, *changes], {"data.path": str(text)})


def variables(rank: int, port: int) -> dict[str, str]:
    """Environment that a launcher gives one of two processes."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
    return {**{k: str(v) for k, v in numbers.items()}, "MASTER_ADDR": "127.0.0.1"}


def be_a_rank(rank: int, port: int, text: Path, folder: Path) -> None:
    """Train all variants as one of two processes, and resume the one that was stopped."""
    os.environ |= variables(rank, port)
    torch.set_num_threads(1)
    ranks = join(timedelta(seconds=60))
    for name, changes in VARIANTS.items():
        layers = layers_of(text, changes)
        prepared = ranks.in_turn(partial(prepare_run, request_run(layers), processes=ranks.size))
        trainer, run = setup.begin(prepared, folder / name, ranks)
        follow(trainer, run, ranks, STOPPED_AT if name == "stopped" else 0)
        if name == "stopped":
            if ranks.leads:
                shutil.copytree(folder / name, folder / "to-resume-alone")
            resumed = setup.resume(folder / name, prepare=print, ranks=ranks)
            assert resumed.step == STOPPED_AT + 1
            assert resumed.differences == []
            follow(resumed.trainer, resumed.run, ranks, 0)
    ranks.leave()
    ranks.close()


def follow(trainer: Trainer, run: RunDirectory, ranks: Ranks, stop_at: int) -> None:
    """Train to the end; at a step the rank that does not lead asks to stop."""
    for event in trainer.train(run):
        if isinstance(event, Trained) and event.step == stop_at and not ranks.leads:
            trainer.stop()
    run.unlock()


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text(words(200), encoding="utf-8")  # so short that the lanes begin anew
    return path


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, text: Path, kernels_folder: Path) -> Path:
    """The runs that two processes have trained."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARLM_CACHE", new_cache(tmp_path_factory, kernels_folder))
        port, here = free_port(), Path(__file__)
        code = (
            f"import sys; sys.path.insert(0, {str(here.parent)!r}); from pathlib import Path; "
            f"from {here.stem} import be_a_rank; "
            f"be_a_rank(int(sys.argv[1]), {port}, Path({str(text)!r}), Path({str(folder)!r}))"
        )
        ranks = [begun(str(rank), cwd=folder, code=code) for rank in range(2)]
        for rank in ranks:
            _, said = rank.communicate(timeout=100)
            assert rank.returncode == 0, said
    return folder


def alone(text: Path, folder: Path, *changes: str) -> Path:
    """A run of one process."""
    trainer, run = setup.begin(prepare_run(request_run(layers_of(text, changes))), folder)
    follow(trainer, run, trainer.ranks, 0)
    return folder


def tensors_of(run: Path) -> dict[str, torch.Tensor]:
    saved = checkpoint.read(RunDirectory(run).find("latest"))
    return {**{f"model.{k}": v for k, v in saved.weights.items()}, **saved.training()}


def rows_of(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def assert_close(found: Path, expected: Path) -> None:
    for name, value in tensors_of(expected).items():
        torch.testing.assert_close(tensors_of(found)[name], value, **CLOSE, msg=name)
    for one, other in zip(rows_of(found), rows_of(expected), strict=True):
        assert one.pop("kind") == other.pop("kind")
        assert one == pytest.approx(other, rel=1e-3)


def assert_same(found: Path, expected: Path) -> None:
    ours, theirs = tensors_of(found), tensors_of(expected)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
    assert rows_of(found) == rows_of(expected)


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_two_processes_learn_what_one_does_with_all_lanes(
    tmp_path: Path, text: Path, two: Path, backend: str
) -> None:
    assert_close(two / backend, alone(text, tmp_path / "one", *VARIANTS[backend]))


def test_accumulated_groups_learn_what_one_large_batch_does(
    tmp_path: Path, text: Path, two: Path
) -> None:
    whole = alone(text, tmp_path / "whole", *NATIVE)
    assert_close(two / "accumulated", whole)
    assert_close(alone(text, tmp_path / "grouped", *VARIANTS["accumulated"]), whole)
    taught = ("train.teachers=" + json.dumps([str(whole)]),)
    large = alone(text, tmp_path / "large", *TORCH, *taught)
    groups = ("train.batch_size=1", "train.accumulate=4")
    assert_close(alone(text, tmp_path / "four", *TORCH, *taught, *groups), large)


def test_accumulated_groups_resume_to_the_same_bits(tmp_path: Path, text: Path) -> None:
    changes = VARIANTS["accumulated"]
    whole = alone(text, tmp_path / "whole", *changes)
    trainer, run = setup.begin(
        prepare_run(request_run(layers_of(text, changes))), tmp_path / "broken"
    )
    for event in trainer.train(run):
        if isinstance(event, Trained) and event.step == STOPPED_AT:
            trainer.stop()
    run.unlock()
    resumed = setup.resume(tmp_path / "broken")
    follow(resumed.trainer, resumed.run, resumed.trainer.ranks, 0)
    assert_same(tmp_path / "broken", whole)


def test_gradients_rounded_on_their_way_are_nearly_the_same(two: Path) -> None:
    exact, rounded = tensors_of(two / "native"), tensors_of(two / "rounded")
    assert not torch.equal(exact["model.head.weight"], rounded["model.head.weight"])
    for name, value in exact.items():
        if name.startswith("model."):
            moved = (rounded[name] - value).norm() / value.norm()
            assert moved < 0.05, name  # of 8 bits each; Adam makes much of the small gradients
    found, expected = rows_of(two / "rounded")[-1], rows_of(two / "native")[-1]
    assert found["loss"] == pytest.approx(expected["loss"], rel=0.01)


def test_two_processes_resume_to_the_same_bits(two: Path) -> None:
    assert_same(two / "stopped", two / "native")


def test_one_process_goes_on_with_what_two_have_written(
    tmp_path: Path, text: Path, two: Path
) -> None:
    resumed = setup.resume(two / "to-resume-alone")
    assert resumed.differences == ["processes 2 -> 1"]
    follow(resumed.trainer, resumed.run, resumed.trainer.ranks, 0)
    assert_close(two / "to-resume-alone", alone(text, tmp_path / "one", *NATIVE))


def test_lanes_that_cannot_be_shared_are_refused(text: Path) -> None:
    config = layers_of(text, ("train.batch_size=6",)).resolve().config.train
    assert groups_of(config, Ranks(1, 3)) == [range(2, 4)]
    for size in (4, 12):
        with pytest.raises(UsageError, match=f"6 lanes cannot be shared equally by {size}"):
            groups_of(config, Ranks(0, size))


def test_shares_of_the_lanes_are_evaluated_to_the_same_nats(tmp_path: Path, text: Path) -> None:
    """Every rank's part, by the sums that it would give to the others."""
    trainer, run = setup.begin(prepare_run(request_run(layers_of(text, NATIVE))), tmp_path / "run")
    run.unlock()
    corpus, computation = trainer.corpus, trainer.learner.evaluation
    whole, _ = evaluate(computation, corpus, "train")
    for size in (2, 3):
        parts = []
        for rank in range(size):
            ranks = Ranks(rank, size)
            ranks.sum = lambda value: value  # type: ignore[method-assign]
            parts.append(evaluate(computation, corpus, "train", ranks=ranks)[0])
        torch.testing.assert_close(sum(parts), whole, rtol=1e-5, atol=1e-6)
        assert all((part == 0).any() for part in parts)


def test_an_error_waits_for_the_rank_that_prints_it() -> None:
    alone, (first, second) = Ranks(1, 2), (Ranks(rank, 2) for rank in range(2))
    first.store = second.store = HashStore()
    errors = [UsageError(f"of rank {rank}", "the advice") for rank in range(2)]
    assert error_exchange.report_error(first, errors[0])
    assert not error_exchange.report_error(second, errors[1])
    error_exchange.wait_until_printed(first, printed=True)
    assert first.store.check(["printed"])
    began = time.monotonic()
    error_exchange.wait_until_printed(second, printed=False)
    assert error_exchange.report_error(alone, errors[1])  # nobody else can print it
    error_exchange.wait_until_printed(alone, printed=False)
    assert time.monotonic() - began < error_exchange.TIME_TO_PRINT.total_seconds()


def test_the_rank_that_serves_the_store_ends_after_those_that_read_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    clock = SimpleNamespace(monotonic=lambda: now, sleep=sleep)
    monkeypatch.setattr(error_exchange, "time", clock)
    serving, *others = (Ranks(rank, 3, store=store) for store in [HashStore()] for rank in range(3))
    error, limit = UsageError("of rank 0", "the advice"), error_exchange.TIME_TO_READ
    lost = ReportedError({"what": "of rank 1", "advice": "", "exit_code": LostError.exit_code})
    for loss in (LostError("of rank 0", "the advice"), lost):
        error_exchange.keep_store(serving, loss)
    assert now == 0
    error_exchange.keep_store(serving, error)
    assert now == pytest.approx(limit, abs=0.1)  # no rank has read it
    for other in [*others[:1], *others[:1]]:  # one, whose message came twice
        error_exchange.keep_store(other, error)
    error_exchange.keep_store(serving, error)
    assert now == pytest.approx(2 * limit, abs=0.2)
    error_exchange.keep_store(others[1], lost)
    error_exchange.keep_store(serving, error)
    assert now == pytest.approx(2 * limit, abs=0.2)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")  # the launcher serves it
    error_exchange.keep_store(Ranks(0, 3, store=HashStore()), error)
    assert now == pytest.approx(2 * limit, abs=0.2)


def test_workers_that_are_started_after_the_end_train_nothing(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ALONE, "launch", HashStore())
    launch_state.remember_end(ALONE, 143)
    given = TrainArguments(str(text), list(TINY), {}, tmp_path / "run", False, False, True)
    assert worker.train(given) == 143
    log = logging.getLogger("charlm")
    log.handlers = []
    log.setLevel(logging.NOTSET)
    assert not (tmp_path / "run").exists()


# ---- commands -----------------------------------------------------------------------------------


def command(text: Path, run: Path, changes: tuple[str, ...], *more: str) -> list[str]:
    settings = [word for change in (*TINY, *changes) for word in ("--set", change)]
    start = [sys.executable, "-m", "charlm", "train", str(text), "--run", str(run)]
    return [*start, *settings, *more]


def ended(commands: list[list[str]], cwd: Path) -> tuple[list[int], list[str]]:
    """Run two processes that a launcher might have started; return exit codes and errors."""
    port, started = free_port(), []
    for rank, words_typed in enumerate(commands):
        started.append(begun(*words_typed[3:], cwd=cwd, variables=variables(rank, port)))
    said = [process.communicate(timeout=60)[1] for process in started]
    return [process.returncode for process in started], said


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which was to be missing")
def test_what_fails_on_one_process_ends_both_with_its_error(tmp_path: Path, text: Path) -> None:
    given = command(text, tmp_path / "run", TORCH)
    codes, said = ended([given, [*given, "--device", "cuda", "--debug"]], tmp_path)
    assert codes == [2, 2], said
    assert "".join(said).count("error: ") == 1
    assert "Traceback" not in said[0]
    assert "charlm.common.errors.UsageError: device cuda" in said[1]
    assert "device cuda is not available here" in said[1]
    assert not (tmp_path / "run").exists()


SLOW_TO_LOOK = """
import time
from torch.distributed.distributed_c10d import PrefixStore
check = PrefixStore.check
def slow(*given):
    time.sleep(2)
    return check(*given)
PrefixStore.check = slow
from charlm.__main__ import main
main()
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which was to be missing")
def test_a_rank_that_looks_late_for_an_error_still_reads_it(tmp_path: Path, text: Path) -> None:
    """Without a launcher, the store is the first rank's, which has failed."""
    given, port = command(text, tmp_path / "run", TORCH)[3:], free_port()
    first = begun(*given, "--device", "cuda", cwd=tmp_path, variables=variables(0, port))
    slow = begun(*given, cwd=tmp_path, variables=variables(1, port), code=SLOW_TO_LOOK)
    said = [process.communicate(timeout=60)[1] for process in (first, slow)]
    assert [first.returncode, slow.returncode] == [2, 2], said
    assert "device cuda is not available here" in said[0]
    assert "error: " not in said[1]


@pytest.mark.parametrize("change", ["train.batch_size=3", "train.sequence_length=5000"])
def test_an_error_ends_all_processes_of_a_launch(tmp_path: Path, text: Path, change: str) -> None:
    given = command(text, tmp_path / "run", (*TORCH, change), "--processes", "2")
    done = charlm(*given[3:], cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error: ") == 1
    assert not (tmp_path / "run").exists()


def test_a_part_of_the_launchers_variables_is_refused(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = charlm(*command(text, tmp_path / "run", TORCH)[3:], cwd=tmp_path)
    assert done.returncode == 2
    assert "RANK" in done.stderr


def test_processes_that_differ_are_refused_on_all(tmp_path: Path, text: Path) -> None:
    changes = [(*TORCH, f"train.seed={rank}", f"model.dropout=0.{rank + 1}") for rank in range(2)]
    codes, said = ended([command(text, tmp_path / "run", one) for one in changes], tmp_path)
    assert codes == [2, 2]
    assert "".join(said).count("error: the processes of this training differ") == 1
    assert "train.seed: 0 on rank 0, 1 on rank 1" in "".join(said)
    assert "model.dropout: 0.1 on rank 0, 0.2 on rank 1" in "".join(said)
    assert not (tmp_path / "run").exists()


def test_several_processes_do_not_read_stdin(tmp_path: Path) -> None:
    given = command(Path("-"), tmp_path / "run", (), "--processes", "2")
    done = charlm(*given[3:], cwd=tmp_path, stdin="text")
    assert done.returncode == 2
    assert "several processes cannot read one stdin" in done.stderr


def workers_of(pid: int) -> list[int]:
    """The processes that a launcher has started, in the order of their ranks."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    names = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
    return [child for child, name in names.items() if b"charlm.cli import rank" in name]


def disturbed(
    given: list[str], run: Path, number: int, *, launcher: bool = False
) -> tuple[int, str, str]:
    """Send a signal to rank 1, or to the launcher, once there is a checkpoint; return exit code and
    output."""
    given = [*given, "--processes", "2", "--json"]
    process: Any = None
    if launcher:  # whose processes go on, and write into its streams
        streams: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(given, **streams)
    else:
        process = begun(*given[3:], cwd=run.parent)
    until = time.monotonic() + 60
    while not list(run.glob("checkpoints/step-*")) and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid if launcher else workers_of(process.pid)[1], number)
    out, said = process.communicate(timeout=90)
    return process.returncode, out, said


def is_running(pid: int) -> bool:
    """False, too, for one that has ended and for which nobody has waited yet."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def ended_while_starting(given: list[str], number: int) -> tuple[int, str]:
    """Signal a launcher once its processes import torch; return exit code and output, once they
    have ended."""
    process = subprocess.Popen(
        [*given, "--processes", "2"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    until = time.monotonic() + 60
    while len(ranks := workers_of(process.pid)) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(number)
    out, _ = process.communicate(timeout=PROMPT)  # to the end of whoever might still print
    while any(map(is_running, ranks)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(map(is_running, ranks))
    return process.returncode, out


needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds processes in /proc")


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_one_process_ends_all_with_one_checkpoint(
    tmp_path: Path, text: Path, number: signal.Signals
) -> None:
    changes = (*VARIANTS["long"], "train.steps=1000000")
    given = command(text, tmp_path / "run", changes)
    code, out, said = disturbed(given, tmp_path / "run", number)
    assert code == 128 + number, said
    summary = json.loads(out)
    assert summary["stopped_by"] == "signal"
    assert RunDirectory(tmp_path / "run").find("latest").name.endswith(f"{summary['steps']}")
    assert rows_of(tmp_path / "run")[-1]["step"] == summary["steps"]


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_while_processes_start_ends_all_at_once_without_a_word(
    tmp_path: Path, text: Path, number: signal.Signals
) -> None:
    code, out = ended_while_starting(command(text, tmp_path / "run", TORCH), number)
    assert (code, out) == (-number if number == signal.SIGKILL else 128 + number, "")
    assert not (tmp_path / "run").exists()


@needs_proc
def test_a_lost_launcher_ends_all_processes_with_one_checkpoint(tmp_path: Path, text: Path) -> None:
    changes = (*VARIANTS["long"], "train.steps=1000000")
    given = command(text, tmp_path / "run", changes)
    code, out, said = disturbed(given, tmp_path / "run", signal.SIGKILL, launcher=True)
    assert code == -signal.SIGKILL
    assert "error" not in said
    assert (
        RunDirectory(tmp_path / "run").find("latest").name.endswith(f"{json.loads(out)['steps']}")
    )


@needs_proc
def test_a_killed_process_is_started_again_and_ends_with_the_same_bits(
    tmp_path: Path, text: Path, two: Path
) -> None:
    given = command(text, tmp_path / "run", VARIANTS["long"])
    code, out, said = disturbed(given, tmp_path / "run", signal.SIGKILL)
    assert code == 0, said
    assert "another process of this training has ended" in said
    assert re.search(r"resuming \S+ at step \d+", said)
    assert json.loads(out)["steps"] == 400
    assert_same(tmp_path / "run", two / "long")
