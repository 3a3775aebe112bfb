"""Command lines of charlm as processes that can be killed, without an import of torch each.

`Forks` starts one Python that imports everything once and forks for every command. This file is
both: the class for the tests, and the program of that process.
"""

import contextlib
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType


class Forks:
    """Starts commands, one at a time. Use as a context manager."""

    def __init__(self, folder: Path, **environment: str) -> None:
        """folder: where the commands run, and what they print is kept."""
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready"

    def __enter__(self) -> "Forks":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._process.communicate("", timeout=60)

    def start(self, *argv: str) -> int:
        """Begin a command; return its process."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(argv) + "\n")
        self._process.stdin.flush()
        return int(self._read())

    def wait(self) -> int:
        """Wait for the command to end; return its exit code, or minus the signal that ended it."""
        return int(self._read())

    def run(self, *argv: str) -> int:
        """Run a command to its end."""
        self.start(*argv)
        return self.wait()

    def kill(self, process: int) -> int:
        """Kill a command, if it is still there; return how it ended."""
        with contextlib.suppress(ProcessLookupError):  # it waits to be waited for, so it is its own
            os.kill(process, signal.SIGKILL)
        return self.wait()

    def said(self) -> str:
        """Return what the last command printed."""
        return (self.folder / "said").read_text(encoding="utf-8", errors="replace")

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def serve() -> None:
    import torch

    for command in ("compare", "train"):
        importlib.import_module(f"charlm.cli.{command}")
    from charlm.__main__ import run

    torch.set_num_threads(1)
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        process = os.fork()
        if not process:
            said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(said, 1)
            os.dup2(said, 2)
            code = 99
            try:
                code = run(json.loads(line))
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        print(process, flush=True)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
