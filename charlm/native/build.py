"""Build of the kernels' library: once per source, compiler and processor.

Nothing is shipped in binary. The library is cached; a new one is used only after `accept` has
tested it.
"""

import contextlib
import ctypes
import hashlib
import importlib.util
import logging
import os
import platform
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from charlm.common import progress
from charlm.common.files import cache_folder, make_private, read_regular, replace, sweep

SOURCE = Path(__file__).parent / "kernels"
UNITS = (
    ("train.cpp", "-DTYPE=bfloat16", "-DWANTS_BFLOAT16"),
    ("train.cpp", "-DTYPE=float32"),
    ("write.cpp",),
    ("adapt.cpp",),
)
"""The units, which are compiled in parallel."""
COMPILERS = ("g++", "clang++", "c++")
"""Programs that are looked for, in this order; then the package ziglang."""
ABANDONED_AFTER = 3600
"""Seconds after which an unfinished build counts as abandoned."""
MOST_OF_REASON = 10_000
"""Bytes."""
MOST_OF_HEAD = 1 << 16
"""Bytes of a compiler's file that identify it."""
PASSING = (
    *("No space", "Killed", "Terminated", "memory", "quota", "Input/output error"),
    "internal compiler error",
)
"""Messages of a compiler after which a second attempt may succeed."""
FLAGS = (
    *("-std=c++17", "-O2", "-march=native", "-pthread", "-fPIC"),
    *("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fvisibility=hidden"),
)
LINKED = ("-shared", "-pthread", *(("-Wl,-Bsymbolic",) if sys.platform == "linux" else ()))
"""With -Bsymbolic the library calls its own C++ runtime. Without it, the runtime that zig links
calls torch's unwinder, of another kind, and an exception ends the process (seen on ARM)."""


log = logging.getLogger(__name__)


class UnavailableError(Exception):
    """The reason why there are no kernels, as a message for the user."""


class _RefusedError(UnavailableError):
    """A reason that will not change, and is cached."""


def library(accept: Callable[[ctypes.CDLL], str], *, keep: bool = True) -> ctypes.CDLL:
    """Return the library, from the cache or built now (10 to 60 seconds, announced in the log).

    accept: called with a new library; returns a description of a wrong result, or "". A library
    that is not accepted, and a source that does not compile, are remembered and not tried again.
    keep: False leaves the cache unchanged.

    Raises: UnavailableError (no compiler, a source that it cannot compile, a wrong result).
    """
    path = cached()
    if usable(path):
        try:
            return _opened(path)
        except UnavailableError:  # linked with a runtime that is gone: build again
            with contextlib.suppress(OSError):
                if keep:
                    path.unlink()
    _raise_what_was_refused(path)
    if not keep:
        return _built_for_now(accept)
    try:
        make_private(path.parent)
        _refuse_shared(path.parent)
        with _compiling(path):
            _raise_what_was_refused(path)  # by another process in the meantime
            if not usable(path):
                if path.exists():
                    log.warning(f"the compiled kernels in {path} are damaged")
                _build(path, accept)
    except OSError as error:
        raise UnavailableError(f"they cannot be kept in {path.parent}: {error.strerror}") from None
    return _opened(path)


@contextlib.contextmanager
def _compiling(path: Path) -> Iterator[None]:
    """Hold the lock of a library; log a message if another process is compiling it."""
    lock = FileLock(path.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another process is compiling the kernels: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _raise_what_was_refused(path: Path) -> None:
    """Check for a refused build. Raises: UnavailableError with the reason, if there was one."""
    refused = path.with_suffix(".refused")
    with contextlib.suppress(OSError):
        said = read_regular(refused, MOST_OF_REASON).decode("utf-8", "replace")
        raise UnavailableError(f"{said} (seen before; to try again, delete {refused})")


def _build(path: Path, accept: Callable[[ctypes.CDLL], str]) -> None:
    """Compile a library, test it, and move it to its place. Raises: as `library`; OSError."""
    log.info("compiling the kernels for this processor: 10 to 60 seconds, this once")
    sweep(path.parent, ".building-*", ABANDONED_AFTER)
    try:
        with tempfile.TemporaryDirectory(prefix=".building-", dir=path.parent) as folder:
            fresh = _compiled(Path(folder))
            if wrong := accept(_opened(fresh)):
                raise _RefusedError(wrong)
            _keep(fresh, path)
    except _RefusedError as error:
        with contextlib.suppress(OSError):
            replace(path.with_suffix(".refused"), str(error).encode())
        raise


def _built_for_now(accept: Callable[[ctypes.CDLL], str]) -> ctypes.CDLL:
    """Compile a library for this process only. Raises: UnavailableError."""
    log.info("compiling the kernels for this estimate: 10 to 60 seconds; none is kept")
    try:
        with tempfile.TemporaryDirectory(prefix="charlm-kernels-") as folder:
            fresh = _opened(_compiled(Path(folder)))  # once loaded, it does not need its file
    except OSError as error:
        raise UnavailableError(f"they cannot be compiled: {error.strerror}") from None
    if wrong := accept(fresh):
        raise UnavailableError(wrong)
    return fresh


def usable(path: Path) -> bool:
    """Return True if a library is there and intact.

    Raises: UnavailableError if another user could have put it there.
    """
    try:
        content = read_regular(path)
    except OSError:
        return False
    for place in (path.parent, path):
        _refuse_shared(place)
    try:
        digest = read_regular(path.with_suffix(".sha256"), MOST_OF_REASON).strip()
    except OSError:
        digest = b""
    return digest == hashlib.sha256(content).hexdigest().encode()


def _refuse_shared(path: Path) -> None:
    """Refuse a file or folder that another user owns or may write to: its code would be run.

    Raises: UnavailableError.
    """
    if os.name != "posix":
        return
    status = path.stat()
    if status.st_uid not in (os.geteuid(), 0):
        raise UnavailableError(f"{path} belongs to another user; set CHARLM_CACHE to your own")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnavailableError(
            f"others may write to {path}; delete it, or: chmod -R go-w {path.parent}"
        )


def _keep(fresh: Path, path: Path) -> None:
    """Flush a library to disk, move it to its place, and write its digest next to it."""
    content = fresh.read_bytes()
    fresh.chmod(0o700)
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    fresh.replace(path)
    replace(path.with_suffix(".sha256"), hashlib.sha256(content).hexdigest().encode() + b"\n")


def cached() -> Path:
    """Return the cache's path of the library. Raises: UnavailableError if there is no compiler."""
    compiler = _compiler()[0]
    about = compiler.stat()
    seen = hashlib.sha256(
        f"{compiler} {about.st_size} {about.st_mtime_ns} {FLAGS} {LINKED} {UNITS}".encode()
    )
    # Another compiler may have the same size and time (images made of layers); the head of the file
    # has a program's build id, or all of a script. Inode and ctime would differ in every container.
    with (
        contextlib.suppress(OSError),
        compiler.open("rb") as program,
    ):  # it may be executable but not readable
        seen.update(program.read(MOST_OF_HEAD))
    seen.update(_processor().encode())
    for file in sorted(SOURCE.iterdir()):
        seen.update(file.read_bytes())
    return cache_folder() / "kernels" / f"{seen.hexdigest()[:24]}.so"


def decided() -> bool:
    """Return True if `library` would compile nothing now."""
    path = cached()
    return usable(path) or path.with_suffix(".refused").is_file()


def _compiler() -> tuple[Path, ...]:
    """Find $CXX (a program, without options), else g++, clang++, c++ or the extra's compiler.

    Returns the program and the words that follow it. Raises: UnavailableError.
    """
    wanted = os.environ.get("CXX", "")
    for name in (wanted,) if wanted else COMPILERS:
        if program := shutil.which(name):
            return (Path(program),)
    packaged = None if wanted else importlib.util.find_spec("ziglang")
    if packaged is not None and packaged.origin is not None:
        zig = Path(packaged.origin).with_name("zig.exe" if os.name == "nt" else "zig")
        return zig, Path("c++")
    looked = wanted or f"{', '.join(COMPILERS[:-1])} or {COMPILERS[-1]}"
    raise UnavailableError(
        f"no C++ compiler ({looked}) was found; for several times the speed, install one: "
        'pip install "charlm[compiler]"'
    )


def _processor() -> str:
    """Describe the processor, on which -march=native depends."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    prefixes = ("model name", "flags", "Features", "CPU part")
    return platform.machine() + str(sorted({line for line in lines if line.startswith(prefixes)}))


def _compiled(folder: Path) -> Path:
    command, result = [str(word) for word in _compiler()], folder / "kernels.so"
    compiler = command[0]
    compilers = _Compilers()

    def run(*arguments: str) -> None:
        try:
            code, stderr = compilers.run([*command, *arguments])
        except OSError as error:
            raise UnavailableError(f"{compiler} cannot be run: {error.strerror}") from None
        if code:
            errors = [line for line in stderr.splitlines() if "error" in line]
            said = errors[0] if errors else stderr.strip()[-200:]
            said = said or f"it ends with code {code} and says nothing"
            passing = code < 0 or any(sign in stderr for sign in PASSING)
            kind = UnavailableError if passing else _RefusedError
            raise kind(f"{compiler} cannot compile the kernels: {said}")

    def unit(number: int) -> str:
        target = str(folder / f"{number}.o")
        source, *defined = UNITS[number]
        run(*FLAGS, *defined, "-c", str(SOURCE / source), "-o", target)
        return target

    with ThreadPoolExecutor(len(UNITS)) as pool, compilers.killed_on_signals():
        compiled = [pool.submit(unit, number) for number in range(len(UNITS))]
        for done, _ in enumerate(as_completed(compiled), 1):
            progress.report("compiling the kernels", done, len(UNITS))
    # `map` would not start the rest once the first fails: the set of commands run would vary.
    objects = [one.result() for one in compiled]
    with ThreadPoolExecutor(1) as pool, compilers.killed_on_signals():
        pool.submit(run, *LINKED, *objects, "-o", str(result)).result()
    return result


class _Compilers:
    """Compilers that run in parallel."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []
        self._stopped = False

    def run(self, command: Sequence[str]) -> tuple[int, str]:
        """Run a command to its end; return its exit code and its stderr."""
        group: Any = {"process_group": 0} if os.name == "posix" else {}
        streams: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, **streams, **group) as process:  # noqa: S603
            self._started.append(process)
            if self._stopped:
                _kill(process)
            stderr = process.communicate()[1]
        return process.returncode, stderr

    @contextlib.contextmanager
    def killed_on_signals(self) -> Iterator[None]:
        """Kill all compilers if a signal ends the wait: else they would run for half a minute."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            self._stopped = True
            for process in self._started:
                _kill(process)
            raise


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill a process and those that it has started."""
    with contextlib.suppress(ProcessLookupError):
        if process.poll() is None and os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        elif process.poll() is None:
            process.kill()


def _opened(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise UnavailableError(f"the kernels cannot be loaded: {error}") from None
