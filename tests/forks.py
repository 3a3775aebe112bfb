"""Command lines of charlm as processes of their own, without an import of torch each.

`Forks` starts one Python that imports everything once and forks for every command. This file is
both: the class for the tests, and the program of that process.
"""

import functools
import gc
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import fast_paths

IMPORTED_LATE = (
    *("torch._dynamo", "matplotlib.figure", "matplotlib.backends.backend_agg", "jinja2"),
    *("charlm.api", "charlm.cli.app", "charlm.cli.worker", "charlm.lecture.page"),
    *("charlm.comparison.benchmark", "charlm.terminal.sample", "charlm.terminal.score"),
    *("charlm.cli.study", "charlm.cli.watching", "charlm.reports.surprisal"),
    *("matplotlib.backends.backend_svg", "PIL.PngImagePlugin"),
)
"""Modules that commands import only when they need them."""
IMPORTED_WITHOUT_TORCH = (
    *("charlm.cli.app", "charlm.cli.sample", "charlm.cli.score", "charlm.api.plain"),
    *("charlm.api.sampling", "charlm.api.scoring", "charlm.native.library", "jinja2"),
)
"""Modules of commands that need no torch."""
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LONGEST = 120
"""Seconds after which a command is ended by SIGALRM, so that one that hangs fails its test."""


class Forks:
    """Starts commands in forks of one process. Use as a context manager.

    folder: where they run. without_torch: of a process that has not imported torch.
    """

    def __init__(self, *, without_torch: bool = False) -> None:
        self.folder = Path.cwd()
        self._streams = tempfile.TemporaryDirectory()
        self._started = 0
        self._process = subprocess.Popen(
            [sys.executable, __file__, *(["without torch"] if without_torch else [])],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready"

    def __enter__(self) -> "Forks":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._process.communicate("", timeout=60)
        self._streams.cleanup()

    def open(
        self,
        *argv: str,
        stdin: str | Path = "",
        stdout: int | None = None,
        stderr: int | None = None,
        code: str = "",
        variables: Mapping[str, str] | None = None,
        own_session: bool = False,
    ) -> "Forked":
        """Begin a command of charlm; several may run at a time.

        stdin: what comes out of a pipe, or a file. stdout, stderr: file descriptors, else
        `communicate` returns what was written. code: a Python program to run instead of charlm.
        variables: additions to the environment. own_session: as by setsid.
        """
        self._started += 1
        streams = [Path(self._streams.name) / f"{self._started}-{name}" for name in ("out", "err")]
        paths = [
            str(stream) if given is None else f"/proc/{os.getpid()}/fd/{given}"
            for stream, given in zip(streams, (stdout, stderr), strict=True)
        ]
        handled = {number: signal.getsignal(number) for number in STOPPING}
        pid = self._ask(
            argv=argv,
            code=code,
            cwd=str(self.folder),
            piped=stdin if isinstance(stdin, str) else None,
            stdin=str(stdin),
            streams=paths,
            environ={**os.environ, **(variables or {})},
            ignored=[number for number, by in handled.items() if by == signal.SIG_IGN],
            own_session=own_session,
        )
        return Forked(self, int(pid), *streams)

    def start(self, *argv: str, stdin: str | Path = "") -> int:
        """Begin a command; return its process."""
        self._last = self.open(*argv, stdin=stdin)
        return self._last.pid

    def wait(self) -> int:
        """Wait for the command to end; return its exit code, or minus the signal that ended it."""
        return self._last.wait()

    def run(self, *argv: str, stdin: str | Path = "") -> int:
        """Run a command to its end."""
        self.start(*argv, stdin=stdin)
        return self.wait()

    def kill(self, process: int) -> int:
        """Kill a command, if it is still there; return how it ended."""
        assert process == self._last.pid
        self._last.kill()
        return self._last.wait()

    def out(self) -> str:
        """Return the stdout of the last command."""
        return self._last.communicate()[0]

    def said(self) -> str:
        """Return the stderr of the last command."""
        return self._last.communicate()[1]

    def code_of(self, pid: int, *, wait: bool) -> int | None:
        """Return the exit code of a command; None if it runs and is not waited for."""
        answer = self._ask(waited_for=pid, wait=wait)
        return int(answer) if answer != "running" else None

    def _ask(self, **request: Any) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class Forked:
    """A command in a process of its own: a `subprocess.Popen`, in the parts that tests use."""

    def __init__(self, forks: Forks, pid: int, out: Path, err: Path) -> None:
        self.pid, self.returncode = pid, cast("int | None", None)
        self._forks, self._streams = forks, (out, err)

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.wait()

    def poll(self) -> int | None:
        """Return its exit code, or minus the signal that ended it; None while it runs."""
        if self.returncode is None:
            self.returncode = self._forks.code_of(self.pid, wait=False)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return its exit code, or minus the signal that ended it.

        Raises: subprocess.TimeoutExpired after `timeout` seconds.
        """
        until = time.monotonic() + (timeout or 0)
        while timeout is not None and self.poll() is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("charlm", timeout)
            time.sleep(0.005)
        if self.returncode is None:
            self.returncode = self._forks.code_of(self.pid, wait=True)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; return what it wrote on stdout and stderr."""
        self.wait(timeout)
        out, err = (
            stream.read_bytes().decode("utf-8", "replace") if stream.exists() else ""
            for stream in self._streams
        )
        return out, err

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)  # it waits to be waited for, so the number is still its own

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        self.send_signal(signal.SIGKILL)


def hurry() -> None:
    """Let the commands of this process measure speeds in a moment, as no test needs precise ones,
    choose a pace of adaptation and measure gradients on little text, not wait for the disk, as no
    test's data outlives the machine (but for `test_faults.py`, which has processes of its own), and
    make their parser once."""
    import typer.main

    from charlm.comparison import analysis, benchmark, step_cost
    from charlm.evaluation import adaptation
    from charlm.inspection import gradients
    from charlm.training import estimate

    estimate.ENOUGH = 0.05  # seconds
    step_cost.ROUNDS, step_cost.SECONDS_A_TURN = 3, 0.005
    analysis.SPEED_ROUNDS, analysis.SPEED_SYMBOLS, benchmark.WRITTEN = 1, 40, 40
    adaptation.SQUARED_ON, adaptation.TUNED_ON = 1500, 500  # symbols
    gradients.WARM_UP = 64  # type: ignore[attr-defined]
    os.fsync = os.fstat
    fast_paths.switch_off()
    typer.main.get_command = functools.cache(typer.main.get_command)


def serve(*, without_torch: bool) -> None:
    for name in IMPORTED_WITHOUT_TORCH if without_torch else IMPORTED_LATE:
        importlib.import_module(name)
    if not without_torch:
        hurry()
    elif os.environ.get(fast_paths.VARIABLE) == "plain":
        fast_paths.switch_off()
    gc.freeze()
    print("ready", flush=True)
    while line := sys.stdin.readline():
        request = json.loads(line)
        if "waited_for" in request:
            found, status = os.waitpid(request["waited_for"], 0 if request["wait"] else os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if found else "running"
        else:
            streams = opened(request)  # before the answer: the other process may close its own
            answer = os.fork()
            if not answer:
                carry_out(request, streams)
            for stream in streams:
                os.close(stream)
        print(answer, flush=True)


def opened(request: dict[str, Any]) -> list[int]:
    """Open the three streams of a command."""
    if request["piped"] is None:
        ready = os.open(request["stdin"], os.O_RDONLY)
    else:
        ready, end = os.pipe()
        os.set_blocking(end, False)  # an error, not a hang, where it does not fit into the pipe
        content = request["piped"].encode()
        assert not content or os.write(end, content) == len(content)
        os.close(end)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    return [ready, *(os.open(path, flags) for path in request["streams"])]


def carry_out(request: dict[str, Any], streams: list[int]) -> None:
    """Become a process that was started for the command of a request, up to its end."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8")
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.BufferedWriter(io.FileIO(number, "w", closefd=False)), "utf-8", errors)
        for number, errors in ((1, "strict"), (2, "backslashreplace"))
    )
    sys.stderr.reconfigure(line_buffering=True)
    for number in STOPPING:
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in request["ignored"] else default)
    if request["own_session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.argv = ["charlm", *request["argv"]]
    sys.path.insert(0, request["cwd"])
    code = 0
    signal.alarm(LONGEST)
    try:
        if request["code"]:
            exec(request["code"], {"__name__": "__main__"})
        else:
            from charlm.__main__ import main

            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(without_torch=len(sys.argv) > 1)
