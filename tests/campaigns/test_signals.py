"""Signals and lost streams: a training that is asked to end saves the step under way and goes on to
the same bits, and one whose reader goes away finishes all the same."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, begun, words
from forks import Forked

from charlm.__main__ import run
from charlm.runs.manifest import MODEL, TRAINING

STEPS = 600
BEGIN = [
    *("train", "--data", "words.txt", "--json"),
    *[
        part
        for change in [
            *TINY,
            f"train.steps={STEPS}",
            "train.checkpoint_every=50",
            "train.eval_every=200",
            "train.patience=0",
            "train.sample_every=0",
            "train.backend=torch",
            "model.dropout=0.2",
        ]
        for part in ("--set", change)
    ],
]
SHORT = [*BEGIN, "--set", "train.steps=30"]
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]

PROMPT = 5
"""Seconds to end in: half a second where nothing is to be saved, but for a busy machine."""

nightly = pytest.mark.nightly


def slow(value: Any) -> Any:
    values = value if isinstance(value, tuple) else (value,)
    return pytest.param(*values, marks=nightly)


@pytest.fixture(autouse=True)
def nothing_is_ignored() -> Iterator[None]:
    """Undo what nohup or a background job does, and what a process hands on to those it starts."""
    ignored = [number for number in SIGNALS if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "words.txt").write_text(words(1500), encoding="utf-8")
    return tmp_path


def start(arguments: list[str], folder: Path, **streams: Any) -> "subprocess.Popen[str]":
    """Start a command whose start or end of the process itself matters; else `begun` is faster."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    command = [sys.executable, "-m", "charlm", *arguments]
    return subprocess.Popen(command, cwd=folder, text=True, **given)


def shell(line: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """A line of sh, in which `charlm` is the command, and the exit code of which is charlm's."""
    command = f'charlm() {{ "{sys.executable}" -m charlm "$@"; }}; {line}'
    return subprocess.run(
        ["/bin/sh", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60
    )


def wait_until_training(process: Forked, run_folder: Path) -> None:
    for _ in range(3000):
        if _has_metrics(run_folder) or process.poll() is not None:
            return
        time.sleep(0.01)


def _has_metrics(run_folder: Path) -> bool:
    path = run_folder / "metrics.jsonl"
    return path.exists() and path.stat().st_size > 0


def final_files(run_folder: Path) -> list[bytes]:
    last = run_folder / "checkpoints" / (run_folder / "checkpoints" / "latest").read_text().strip()
    assert last.name == f"step-{STEPS:08d}"
    return [(last / name).read_bytes() for name in (MODEL, TRAINING)]


# ---- signals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("count", [1, pytest.param(17, marks=nightly)])
def test_signal_saves_the_step_and_the_run_ends_with_the_same_bits(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, count: int
) -> None:
    monkeypatch.chdir(folder)
    assert run([*BEGIN, "--run", "whole"]) == 0
    expected = final_files(folder / "whole")
    rng, stopped = random.Random(number), 0
    for at in range(count):
        name = f"run-{at}"
        with begun(*BEGIN, "--run", name, cwd=folder) as process:
            wait_until_training(process, folder / name)
            time.sleep(rng.uniform(0, 0.8))
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        assert process.returncode in (0, 128 + number), (process.returncode, err)
        summary = json.loads(out)
        latest = (folder / name / "checkpoints" / "latest").read_text().strip()
        assert latest == f"step-{summary['steps']:08d}"
        if summary["steps"] < STEPS:  # else the signal came after the last step
            stopped += 1
            assert (process.returncode, summary["stopped_by"]) == (128 + number, "signal")
            assert run(["train", "--resume", "--run", name, "--json"]) == 0
        assert final_files(folder / name) == expected
    assert stopped or count == 1


@pytest.mark.parametrize("count", [2, pytest.param(30, marks=nightly)])
def test_interrupt_while_starting_exits_with_130_and_no_traceback(folder: Path, count: int) -> None:
    rng = random.Random(5)
    for at in range(count):
        with start([*BEGIN, "--run", f"run-{at}"], folder) as process:
            moment = rng.uniform(0.1, 1.5)  # before that, Python itself is not there to be asked
            time.sleep(moment)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        assert "Traceback" not in err, (moment, err)
        assert process.returncode == 130, (moment, process.returncode, err)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("count", [pytest.param(20, marks=nightly)])
def test_other_signals_while_starting_leave_no_traceback(
    folder: Path, number: signal.Signals, count: int
) -> None:
    rng = random.Random(6)
    for at in range(count):
        with start([*BEGIN, "--run", f"run-{at}"], folder) as process:
            time.sleep(rng.uniform(0.1, 1.5))
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        # Before the command has begun, the signal's own action is as good: nothing is to be saved.
        assert process.returncode in (128 + number, -number), err


def moments(last: float) -> list[Any]:
    """Seconds after a start: few, and by night one in every 0.2 of them."""
    few = (1.0, 3.0, 5.0)
    return [
        *few,
        *(slow(number / 5) for number in range(1, int(5 * last)) if number / 5 not in few),
    ]


def running_in(folder: Path) -> list[int]:
    """List the processes whose working folder it is."""
    pids = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (path / "cwd").readlink() == folder:
                pids.append(int(path.name))
    return pids


SMALL, ENCODED_BY_WORKERS = 1500, 16_000_000
"""Words of a text."""


@pytest.mark.parametrize("moment", moments(10))
@pytest.mark.parametrize(
    ("processes", "size", "to_all", "number"),
    [
        (2, SMALL, True, signal.SIGINT),
        slow((2, SMALL, False, signal.SIGTERM)),
        slow((2, SMALL, False, signal.SIGHUP)),
        slow((2, ENCODED_BY_WORKERS, True, signal.SIGINT)),
        slow((1, ENCODED_BY_WORKERS, False, signal.SIGTERM)),
        slow((1, SMALL, True, signal.SIGINT)),
    ],
)
def test_signal_at_any_moment_of_a_start_ends_everything_at_once(
    folder: Path, processes: int, size: int, to_all: bool, number: signal.Signals, moment: float
) -> None:
    """to_all: as a terminal's Ctrl-C, not to the launcher alone."""
    (folder / "words.txt").write_text(words(min(size, 1_000_000)) * max(1, size // 1_000_000))
    lanes = ["--set", "train.batch_size=4"]  # to be shared by two
    steps = ["--set", "train.steps=1000000"]
    long = [*BEGIN, *lanes, *steps, "--run", "run", "--processes", str(processes)]
    with start(long, folder, start_new_session=True) as process:
        time.sleep(moment)
        (os.killpg if to_all else os.kill)(process.pid, number)
        sent = time.monotonic()
        out, err = process.communicate(timeout=60)
    assert time.monotonic() - sent < PROMPT, (out, err)
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err
    assert "error" not in err
    time.sleep(0.2)
    assert running_in(folder) == []
    if (folder / "run").exists():
        done = ["train", "--resume", "--run", str(folder / "run")]
        steps = json.loads(out)["steps"] if out else 0
        assert run([*done, "--set", f"train.steps={steps + 5}", "-q"]) == 0


@pytest.mark.parametrize(
    ("number", "arguments", "last"),
    [
        (signal.SIGTERM, [*BEGIN, "--run", "run"], "stopped on request"),
        (
            signal.SIGINT,
            ["compare", "rnn", "--match", "hidden", "--seeds", "1", *BEGIN[1:3], *BEGIN[4:]],
            "stopped; to go on: charlm compare rnn ",
        ),
    ],
    ids=["train", "compare"],
)
def test_signal_while_the_kernels_are_compiled_kills_the_compilers(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    arguments: list[str],
    last: str,
) -> None:
    compiler = folder / "compiler"
    compiler.write_text("#!/bin/sh\ntouch compiling\nsleep 60\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("CHARLM_CACHE", str(folder / "cache"))
    with begun(*arguments, "--set", "train.backend=native", cwd=folder) as process:
        for _ in range(3000):
            if (folder / "compiling").exists():
                break
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=PROMPT)
    assert process.returncode == 128 + number, err
    assert err.splitlines()[-1].startswith(last)
    assert "Traceback" not in err
    time.sleep(0.2)
    assert running_in(folder) == []
    assert not (folder / "run").exists()


# ---- two processes ------------------------------------------------------------------------------


def test_second_process_on_a_run_is_refused_and_the_first_unharmed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    long = [*BEGIN, "--set", "train.steps=100000", "--run", "shared"]
    with begun(*long, cwd=folder) as process:
        wait_until_training(process, folder / "shared")
        while not (folder / "shared" / "checkpoints" / "latest").exists():
            time.sleep(0.01)
        capsys.readouterr()
        for arguments in (long, ["train", "--resume", "--run", "shared"]):
            assert run(arguments) == 2
            out, err = capsys.readouterr()
            assert out == ""
            assert err.count("error: ") == err.count("help: ") == 1
        assert "another process" in err
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, err
    steps = json.loads(out)["steps"]
    assert run(["train", "--resume", "--run", "shared", "--set", f"train.steps={steps + 5}"]) == 0


def test_lock_of_a_killed_process_does_not_hinder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with begun(*BEGIN, "--run", "killed", cwd=folder) as process:
        wait_until_training(process, folder / "killed")
        process.kill()
        process.communicate(timeout=60)
    assert (folder / "killed" / ".lock").exists()
    assert run(["train", "--resume", "--run", "killed", "--set", "train.steps=60"]) == 0


@pytest.mark.parametrize("count", [1, pytest.param(10, marks=nightly)])
def test_two_processes_encode_one_text_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    (folder / "words.txt").write_text(words(60_000), encoding="utf-8")
    for at in range(count):
        monkeypatch.setenv("CHARLM_CACHE", str(folder / f"cache-{at}"))
        pair = [begun(*SHORT, "--run", f"{at}-{name}", cwd=folder) for name in "ab"]
        for process in pair:
            _, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
        left = folder / f"cache-{at}" / "corpora"
        assert [path for path in left.iterdir() if path.name.startswith(".")] == []
        found = [
            (folder / f"{at}-{name}" / "checkpoints" / "step-00000030" / MODEL).read_bytes()
            for name in "ab"
        ]
        assert found[0] == found[1]


# ---- streams that are closed, full or read no more ----------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "{charlm} 2>&-",
        "{charlm} >&- 2>/dev/full",
        slow("{charlm} 2>/dev/full"),
        slow("{charlm} >&-"),
        slow("{charlm} <&-"),
        slow("{charlm} <&- >&- 2>&-"),
        slow("{charlm} --quiet 2>&-"),
        slow("{charlm} --quiet >&-"),
    ],
)
def test_training_without_its_streams_goes_to_its_end(folder: Path, line: str) -> None:
    words_of = " ".join(f"'{part}'" for part in SHORT if part != "--json")
    done = shell(line.replace("{charlm}", f"charlm {words_of} --run here"), folder)
    assert (folder / "here" / "summary.json").exists(), done.stderr
    assert json.loads((folder / "here" / "summary.json").read_text())["steps"] == 30
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.parametrize("which", ["stderr", pytest.param("both", marks=nightly)])
def test_training_whose_reader_has_gone_goes_to_its_end(folder: Path, which: str) -> None:
    """As in `charlm train ... 2>&1 | head -n 1`."""
    reading, writing = os.pipe()
    streams: dict[str, Any] = {"stderr": writing, "stdout": subprocess.PIPE}
    if which == "both":
        streams["stdout"] = writing
    arguments = [part for part in SHORT if part != "--json"]
    with start([*arguments, "--run", "here"], folder, **streams) as process:
        os.close(writing)
        os.read(reading, 1)
        os.close(reading)
        process.communicate(timeout=60)
    assert (folder / "here" / "summary.json").exists()
    assert process.returncode == 0


@pytest.fixture
def trained(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    assert run([*SHORT, "--run", "mine"]) == 0
    return folder


@pytest.mark.parametrize(
    "line",
    [
        "charlm sample mine --length 20000 | head -c 10",
        slow("charlm sample mine --length 20000 --num 3 2>/dev/null | head -c 10"),
        slow("charlm score mine words.txt --per-character | head -n 1"),
        slow("charlm init | head -n 1"),
        slow("charlm runs . --json | head -c 1"),
    ],
)
def test_reader_that_has_seen_enough_is_no_error(trained: Path, line: str) -> None:
    left, _, right = line.partition(" | ")
    done = shell(f"{{ {left}; echo $? >code; }} | {right}", trained)
    assert (trained / "code").read_text().strip() == "0", done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "error" not in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "charlm sample mine --length 5 >/dev/full",
        "charlm init >/dev/full",
        slow("charlm sample mine --length 5 >&-"),
        slow("charlm sample mine --length 5 --json >/dev/full"),
        slow("charlm sample mine --length 5 --num 2 >&-"),
        slow("charlm score mine words.txt >/dev/full"),
        slow("charlm score mine words.txt >&-"),
        slow("charlm score mine words.txt --per-character >/dev/full"),
        slow("charlm score mine words.txt --json >&-"),
        slow("charlm init >&-"),
        slow("charlm runs . >/dev/full"),
        slow("charlm runs . >&-"),
        slow("charlm --version >/dev/full"),
        slow("charlm --help >/dev/full"),
        slow("charlm --help >&-"),
        slow("charlm sample none 2>&-"),
        slow("charlm sample none 2>/dev/full"),
    ],
)
def test_product_that_cannot_be_written_is_an_error_without_traceback(
    trained: Path, line: str
) -> None:
    done = shell(line, trained)
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    if " none " in line:  # there is no run of that name, and nowhere to say so
        assert done.returncode == 2
        return
    assert done.returncode in (0, 1), done.stderr
    assert done.stderr.count("error: ") == (done.returncode == 1), done.stderr
