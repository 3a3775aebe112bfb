"""A command's process: its streams, its signals, its errors and its exit code."""

import errno
import io
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from charlm.cli import launch, rank, signals, streams
from charlm.cli.arguments import TrainArguments
from charlm.cli.options import Debugging
from charlm.cli.outcome import exit_code_of, unforeseen
from charlm.cli.watching import Watching
from charlm.common.errors import CharlmError

posix = pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")


@pytest.fixture(autouse=True)
def _handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the handlers of signals back that a test changes."""
    monkeypatch.setattr(signals, "_exiting", [])
    changed = [*signals.STOPPING, *([signal.SIGQUIT] if os.name == "posix" else [])]
    before = {number: signal.getsignal(number) for number in changed}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


# ---- exit codes ---------------------------------------------------------------------------------


def failing(error: BaseException) -> Callable[[], object]:
    def command() -> object:
        raise error

    return command


ERRORS = [
    (CharlmError("the cause", "the advice"), 1, "error: the cause"),
    (OSError(errno.EIO, "Input/output error", "a.txt"), 1, "error: a.txt: Input/output error"),
    (RuntimeError("the cause\nits rest"), 1, "error: RuntimeError: the cause\n"),
    (ImportError("no such library"), 1, "error: a library cannot be loaded: no such library\n"),
    (OSError("a.so: failed to map segment"), 1, "perhaps there is not enough memory"),
]


@pytest.mark.parametrize(("error", "code", "said"), ERRORS)
def test_an_error_is_a_message_or_with_debug_a_traceback(
    error: Exception,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Debugging, "wanted", False)
    assert exit_code_of(failing(error)) == code
    printed = capsys.readouterr().err
    assert said in printed
    assert "help: " in printed
    monkeypatch.setattr(Debugging, "wanted", True)
    with pytest.raises(type(error)) as raised:
        exit_code_of(failing(error))
    assert raised.value is error
    assert capsys.readouterr().err == ""


def test_only_an_error_that_may_be_of_memory_speaks_of_memory() -> None:
    for error in (MemoryError(), RuntimeError("could not create a primitive")):
        assert "not enough memory" in unforeseen(error).what
    thread = unforeseen(RuntimeError("can't start new thread"))
    assert thread.what == "can't start new thread: perhaps there is not enough memory"
    other = unforeseen(RuntimeError("an index is out of range"))
    assert other.what == "RuntimeError: an index is out of range"
    assert other.advice == "run again with --debug to see where"


def numpys(cause: str) -> ImportError:
    """Make numpy's error for a library that cannot be loaded."""
    error = ImportError("\n\nIMPORTANT: PLEASE READ THIS")
    error.__cause__ = ImportError(cause)
    return error


def test_a_library_that_cannot_be_loaded_speaks_of_memory_only_if_its_cause_may_be() -> None:
    short = "a.so: failed to map segment from shared object"
    for error in (numpys(short), OSError(short)):
        assert unforeseen(error).what == f"{short}: perhaps there is not enough memory"
    for cause in ("a.so: no such file", "a.so: cannot allocate memory in static TLS block"):
        found = unforeseen(numpys(cause))
        assert found.what == f"a library cannot be loaded: {cause}"
        assert "memory" not in found.advice


WITHOUT_TYPER = """
import sys
sys.modules["typer"] = None
from charlm.__main__ import run
sys.exit(run(sys.argv[1:]))
"""
IN_LITTLE_MEMORY = """
import resource, sys
limit = 150 << 20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
from charlm.__main__ import run
sys.exit(run(sys.argv[1:]))
"""


def carried_out(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Carry out a program that runs charlm, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False
    )


def test_a_module_that_is_missing_is_one_message_or_with_debug_a_traceback() -> None:
    done = carried_out(WITHOUT_TYPER, "runs")
    assert (done.returncode, done.stdout) == (1, "")
    error, advice = done.stderr.splitlines()
    assert error.startswith("error: charlm cannot be loaded: ")
    assert "typer" in error
    assert advice.startswith("help: ")
    done = carried_out(WITHOUT_TYPER, "runs", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory as Linux does")
def test_memory_too_short_for_torch_is_one_message() -> None:
    done = carried_out(IN_LITTLE_MEMORY, "compare", "rnn", "gru")
    assert (done.returncode, done.stdout) == (1, "")
    error, advice = done.stderr.splitlines()
    assert "not enough memory" in error
    assert "close other programs" in advice


# ---- exit codes of several processes ------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        *(([130, 143], 130), ([130, -15], 130), ([129, 143], 129), ([143, -15], 143)),
        *(([-15], 143), ([-2, -15], 130), ([75, 143], 0), ([-9, 143], 0)),
        *(([1, 130], 1), ([2, 75], 2), ([4, -9], 4)),
    ],
)
def test_several_processes_end_with_the_code_of_the_one_that_ended_first(
    codes: list[int], code: int
) -> None:
    assert launch._code_of_all(codes) == code


@pytest.mark.parametrize(("number", "said"), [("0", "stopped on request\n"), ("1", "")])
def test_one_of_several_processes_says_that_a_signal_stopped_them(
    number: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", number)
    assert exit_code_of(failing(KeyboardInterrupt())) == 130
    assert exit_code_of(failing(SystemExit(143))) == 143
    assert capsys.readouterr().err == said * 2


# ---- streams ------------------------------------------------------------------------------------


def test_a_command_without_stdin_reads_an_empty_text(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()  # such as a notebook's: it has no encoding to set
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", None)
    streams.secure()
    assert streams.read_text("the text") == ""
    assert sys.stdout is out
    assert sys.stderr.write("lost") == 4
    assert out.getvalue() == ""


# ---- signals ------------------------------------------------------------------------------------


@posix
def test_a_second_interrupt_does_not_wait_for_the_step() -> None:
    stops: list[int] = []
    with signals.stopping_on_signals(lambda: stops.append(1)) as received:
        signal.raise_signal(signal.SIGINT)
        assert (received, stops, signals._exiting) == ([signal.SIGINT], [1], [])
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert (received, stops, signals._exiting) == ([signal.SIGINT], [1], [signal.SIGINT])


@posix
def test_a_process_that_is_exiting_heeds_only_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    signals.exit_on_signals()
    with pytest.raises(SystemExit) as ended:
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM
    signal.raise_signal(signal.SIGHUP)
    assert left == []
    with pytest.raises(SystemExit):  # as the process does not end here, it goes on
        signal.raise_signal(signal.SIGINT)
    assert left == [128 + signal.SIGINT]


def test_an_exit_that_no_signal_causes_ends_a_comparison_too() -> None:
    watching, stops = Watching(quiet=True), []
    comparison: Any = SimpleNamespace(stop=lambda: stops.append(1))
    with pytest.raises(SystemExit) as ended, watching(comparison):
        raise SystemExit(3)
    assert (ended.value.code, watching.code, stops) == (3, 0, [])
    with watching(comparison):
        signal.raise_signal(signal.SIGTERM)
        failing(SystemExit(128 + signal.SIGTERM))()
    assert (watching.code, stops) == (128 + signal.SIGTERM, [1])


# ---- several processes --------------------------------------------------------------------------


@posix
def test_a_process_whose_launcher_has_ended_ends_as_by_sigterm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    received = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, _: received.set())
    monkeypatch.setattr(sys, "platform", "darwin")  # where the system sends no signal
    monkeypatch.setattr(rank, "SECONDS_BETWEEN_LOOKS", 0.01)
    launcher = os.getppid()
    monkeypatch.setattr(os, "getppid", lambda: launcher)
    rank._end_with(launcher)
    assert not received.wait(0.05)
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert received.wait(5)


GIVEN = TrainArguments(None, [], {}, None, False, False, True)


@posix
def test_a_second_interrupt_kills_the_processes() -> None:
    asked: list[tuple[int, int]] = []
    agent = launch._Agent(launch._processes(1))
    processes: Any = SimpleNamespace(close=lambda sig, timeout: asked.append((sig, timeout)))
    agent._pcontext = processes
    agent.stop(signal.SIGINT, None)
    agent._shutdown()
    with pytest.raises(KeyboardInterrupt):
        agent.stop(signal.SIGINT, None)
    agent._shutdown()
    assert asked == [(signal.SIGTERM, launch.SHUTDOWN), (signal.SIGKILL, launch.SHUTDOWN)]


@posix
def test_processes_that_are_lost_each_time_end_the_training(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    os.environ.pop("GLOO_SOCKET_IFNAME", None)
    monkeypatch.setattr(launch, "RESTARTS", 1)
    monkeypatch.setattr(rank, "START", "import os; os.kill(os.getpid(), 9)")
    elsewhere = SimpleNamespace(platform="darwin", executable=sys.executable, path=sys.path)
    monkeypatch.setattr(launch, "sys", elsewhere)  # there the host's name is this machine's
    for noisy in map(logging.getLogger, launch.NOISY_LOGGERS):
        request.addfinalizer(partial(noisy.setLevel, noisy.level))
    with pytest.raises(CharlmError, match="processes of this training were lost 2 times") as lost:
        launch.launch(2, GIVEN)
    assert lost.value.advice.endswith("the same with --resume")
    assert "GLOO_SOCKET_IFNAME" not in os.environ
