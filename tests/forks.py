"""Command lines of charlm as processes of their own, without an import of torch each.

`Forks` starts one Python that imports everything once and forks for every command. This file is
both: the class for the tests, and the program of that process.
"""

import contextlib
import gc
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

IMPORTED_LATE = (
    *("torch._dynamo", "matplotlib.figure", "matplotlib.backends.backend_agg", "jinja2"),
    *("charlm.api", "charlm.cli.app", "charlm.cli.worker", "charlm.lecture.page"),
    *("charlm.compare.benchmark", "charlm.terminal.sample", "charlm.terminal.score"),
)
"""What commands import only when they need it."""
LONGEST = 120
"""Seconds after which a command is ended by SIGALRM, so that one that hangs fails its test."""


class Forks:
    """Starts commands, one at a time. Use as a context manager.

    folder: where they run.
    """

    def __init__(self) -> None:
        self.folder = Path.cwd()
        self._streams = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            [sys.executable, __file__],
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

    def start(self, *argv: str, stdin: str | Path = "") -> int:
        """Begin a command; return its process. stdin: what comes out of a pipe, or a file."""
        request: dict[str, Any] = {
            "argv": argv,
            "cwd": str(self.folder),
            "piped": stdin if isinstance(stdin, str) else None,
            "streams": [str(self._stream(name)) for name in ("stdout", "stderr")],
            "environ": dict(os.environ),
        }
        if isinstance(stdin, Path):
            request["stdin"] = str(stdin)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._read())

    def wait(self) -> int:
        """Wait for the command to end; return its exit code, or minus the signal that ended it."""
        return int(self._read())

    def run(self, *argv: str, stdin: str | Path = "") -> int:
        """Run a command to its end."""
        self.start(*argv, stdin=stdin)
        return self.wait()

    def kill(self, process: int) -> int:
        """Kill a command, if it is still there; return how it ended."""
        with contextlib.suppress(ProcessLookupError):  # it waits to be waited for, so it is its own
            os.kill(process, signal.SIGKILL)
        return self.wait()

    def out(self) -> str:
        """Return what the last command printed on stdout."""
        return self._stream("stdout").read_bytes().decode("utf-8", "replace")

    def said(self) -> str:
        """Return what the last command printed on stderr."""
        return self._stream("stderr").read_bytes().decode("utf-8", "replace")

    def _stream(self, name: str) -> Path:
        return Path(self._streams.name) / name

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def serve() -> None:
    for name in IMPORTED_LATE:
        importlib.import_module(name)
    gc.freeze()
    print("ready", flush=True)
    while line := sys.stdin.readline():
        process = os.fork()
        if not process:
            carry_out(json.loads(line))
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


def carry_out(request: dict[str, Any]) -> None:
    """Become a process that was started for the command of a request, up to its end."""
    if request["piped"] is None:
        ready = os.open(request["stdin"], os.O_RDONLY)
    else:
        ready, end = os.pipe()
        os.set_blocking(end, False)  # an error, not a hang, where it does not fit into the pipe
        content = request["piped"].encode()
        assert not content or os.write(end, content) == len(content)
        os.close(end)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    opened = (ready, *(os.open(path, flags) for path in request["streams"]))
    for number, stream in enumerate(opened):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8")
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.BufferedWriter(io.FileIO(number, "w", closefd=False)), "utf-8", errors)
        for number, errors in ((1, "strict"), (2, "backslashreplace"))
    )
    sys.stderr.reconfigure(line_buffering=True)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.argv = ["charlm", *request["argv"]]
    sys.path.insert(0, request["cwd"])
    code = 0
    signal.alarm(LONGEST)
    try:
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
    serve()
