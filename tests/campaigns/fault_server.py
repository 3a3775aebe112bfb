"""Command lines of charlm run under faults of input and output and without memory, but without an
import of torch each.

`FaultServer` starts one Python with the shim of `faults.c` and `memory.c`, which imports everything
once and forks for every command. This file is both: the class for the tests, and the program of
that process.
"""

import contextlib
import ctypes
import errno
import gc
import importlib
import json
import os
import pkgutil
import select
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

MODES = (
    *("count", "fail", "fail from here", "kill", "torn write"),
    *("power loss: data", "power loss: sectors", "power loss: data, names", "power loss: names"),
    "no memory",
)
COUNT, FAIL, FAIL_FROM_HERE, CRASH_KEEP, CRASH_TORN = range(5)
CRASH_DROP_DATA, CRASH_DROP_SECTORS, CRASH_DROP_ALL, CRASH_DROP_NAMES, NO_MEMORY = range(5, 10)
CRASHED = 137
HANG = -1
"""The exit code that stands for a command that did not end in time."""


IMPORTED_LATE = ("torch._dynamo", "matplotlib.figure", "matplotlib.backends.backend_svg", "jinja2")
"""Modules that commands import only when needed; here that would cost every case seconds."""


@dataclass(frozen=True)
class Fault:
    """Name a fault and its operation, counted from 1; without memory, its allocation.

    error: of an operation that fails, its number; of a torn write, the part of it that is written,
        of 256; of lost sectors, the seed of their choice; without memory, the fewest bytes of the
        allocations that count.
    """

    at: int = 0
    mode: int = COUNT
    error: int = 0

    @property
    def ends_the_process(self) -> bool:
        """True for a crash."""
        return CRASH_KEEP <= self.mode < NO_MEMORY

    def __str__(self) -> str:
        name = errno.errorcode[self.error] if self.mode in (FAIL, FAIL_FROM_HERE) else self.error
        which = "allocation" if self.mode == NO_MEMORY else "operation"
        return f"{MODES[self.mode]}{f' ({name})' if name else ''} at {which} {self.at}"


UNDISTURBED = Fault()


@dataclass(frozen=True)
class Operation:
    """does: "r" (changes nothing), "w" (takes room), "f" (frees room)."""

    does: str
    name: str
    path: str


@dataclass(frozen=True)
class Answer:
    """Describe the end of a command.

    trace: its operations under the watched folder, in order. allocations: their number, if counted.
    """

    code: int
    out: str
    err: str
    trace: list[Operation]
    allocations: int


def build_shim(folder: Path) -> Path:
    """Compile the shim into `folder`."""
    target = folder / "faults.so"
    sources = [str(Path(__file__).with_name(name)) for name in ("faults.c", "memory.c")]
    command = [
        "gcc",
        "-shared",
        "-fPIC",
        "-O1",
        "-fno-builtin",
        *sources,
        "-o",
        str(target),
        "-ldl",
    ]
    subprocess.run(command, check=True)
    return target


class FaultServer:
    """Runs command lines of charlm, each in a fork of a process that has imported it.

    scratch: for the shim and for what the commands print. watch: the folder whose files count.
    """

    def __init__(self, scratch: Path, watch: Path, environment: Mapping[str, str]) -> None:
        self.watch = Path(os.path.realpath(watch))
        self._scratch = scratch
        self._environment = environment

    def __enter__(self) -> "FaultServer":
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        environment = {**os.environ, **one_thread, **self._environment}
        self.shim = build_shim(self._scratch)
        environment |= {"LD_PRELOAD": str(self.shim), "PYTHONFAULTHANDLER": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self._scratch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._process:  # closes the pipes and waits
            assert self._process.stdin
            self._process.stdin.close()

    def run(self, *argv: str, cwd: Path, fault: Fault = UNDISTURBED, timeout: float = 60) -> Answer:
        """Run a command line under a fault, which by default is none."""
        request = {
            "argv": argv,
            "cwd": os.path.realpath(cwd),
            "watch": str(self.watch),
            "at": fault.at,
            "mode": fault.mode,
            "error": fault.error,
            "timeout": timeout,
        }
        backups = Path(f"{self.watch}.backups")
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the fault server is gone"
        shutil.rmtree(backups, ignore_errors=True)
        answer = json.loads(line)
        trace = [Operation(*one.split(" ", 2)) for one in answer["operations"].splitlines()]
        return Answer(
            answer["code"], answer["out"], answer["err"], trace, int(answer["allocations"] or 0)
        )


# ---- the process with the shim ------------------------------------------------------------------


def _child(request: dict[str, Any], scratch: Path) -> int:
    """Carry one request out and return the exit code; the process ends after it."""
    os.setsid()  # so that a hang is ended with everything it started
    os.chdir(request["cwd"])
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(scratch / name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    trace = os.open(scratch / "operations", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    shim = ctypes.CDLL(None)
    shim.faults_watch(os.fsencode(request["watch"]))
    shim.faults_trace(trace)
    run = sys.modules["charlm.__main__"].run
    at, mode, error = (ctypes.c_long(request[name]) for name in ("at", "mode", "error"))
    (scratch / "allocations").write_text("", encoding="utf-8")
    if request["mode"] == NO_MEMORY:
        shim.faults_arm(ctypes.c_long(0), COUNT, 0)
        shim.memory_arm(at, error)
    else:
        shim.faults_arm(at, mode, error)
    try:
        code = int(run(request["argv"]))
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        _disarm(shim)
        traceback.print_exc()
        code = 1
    _disarm(shim)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    (scratch / "allocations").write_text(str(shim.memory_count()), encoding="utf-8")
    return code


def _disarm(shim: ctypes.CDLL) -> None:
    shim.faults_off()
    shim.memory_off()


def _served(request: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Fork for a request, wait for its end, and describe it."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = _child(request, scratch)
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    watched = os.pidfd_open(child)
    try:
        in_time = bool(select.select([watched], [], [], request["timeout"])[0])
    finally:
        os.close(watched)
    if not in_time:
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status) if in_time else HANG
    texts = {
        name: (scratch / name).read_text(encoding="utf-8", errors="replace")
        for name in ("out", "err", "operations", "allocations")
    }
    return {"code": code, **texts}


def _serve(scratch: Path) -> None:
    """Import everything, with no thread but this one, and answer requests until there are none."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    package = importlib.import_module("charlm")
    for module in pkgutil.walk_packages(package.__path__, "charlm."):
        importlib.import_module(module.name)
    for name in IMPORTED_LATE:
        importlib.import_module(name)
    threads = list(Path("/proc/self/task").iterdir())
    assert len(threads) == 1, "a fork would lose the other threads, and wait for them"
    gc.freeze()  # no collection of a child copies the pages of all that was imported
    for line in sys.stdin:
        print(json.dumps(_served(json.loads(line), scratch)), flush=True)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
