"""The kernels' source made into a library: once for a source, a compiler and a processor.

Nothing is shipped in binary. The library is kept in the cache; a fresh one is believed only after
`accept` has tried it.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from charlm import sources

SOURCE = Path(__file__).parent / "kernels"
UNITS = (
    ("train.cpp", "-DTYPE=bfloat16", "-DWANTS_BFLOAT16"),
    ("train.cpp", "-DTYPE=float32"),
    ("write.cpp",),
)
"""What is compiled, side by side."""
FLAGS = (
    *("-std=c++17", "-O2", "-march=native", "-fopenmp", "-fPIC", "-w"),
    *("-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"),
)


log = logging.getLogger(__name__)


class UnavailableError(Exception):
    """Why there are no kernels here, in words for the user."""


def library(accept: Callable[[ctypes.CDLL], None]) -> ctypes.CDLL:
    """The library, from the cache or built now (10 to 20 seconds, announced in the log).

    accept: is given a fresh library and raises UnavailableError where it computes wrongly.

    Raises: UnavailableError: no compiler, a source that it cannot compile, a wrong result.
    """
    path = cached()
    if path.is_file():
        return _opened(path)
    refused = path.with_suffix(".refused")
    if refused.is_file():
        said = refused.read_text(encoding="utf-8")
        raise UnavailableError(f"{said} (seen before; to try again, delete {refused})")
    try:
        sources.writable(path.parent)
        log.info("compiling the kernels for this processor: about 15 seconds, this once")
        with tempfile.TemporaryDirectory(prefix=".building-", dir=path.parent) as folder:
            fresh = _compiled(Path(folder))
            accept(_opened(fresh))
            fresh.replace(path)
    except UnavailableError as error:
        refused.write_text(str(error), encoding="utf-8")
        raise
    except OSError as error:
        raise UnavailableError(
            f"the kernels cannot be kept in {path.parent}: {error.strerror}"
        ) from None
    return _opened(path)


def cached() -> Path:
    """Where the library is, or will be once it is built. Raises: UnavailableError: no compiler."""
    compiler = _compiler()
    about = compiler.stat()
    seen = hashlib.sha256(
        f"{compiler} {about.st_size} {about.st_mtime_ns} {FLAGS} {UNITS}".encode()
    )
    seen.update(_processor().encode())
    for file in sorted(SOURCE.iterdir()):
        seen.update(file.read_bytes())
    return sources.cache_folder() / "kernels" / f"{seen.hexdigest()[:24]}.so"


def _compiler() -> Path:
    """$CXX, else the first compiler there is."""
    wanted = os.environ.get("CXX", "")
    for name in (wanted,) if wanted else ("g++", "clang++", "c++"):
        if found := shutil.which(name):
            return Path(found)
    looked = wanted or "g++, clang++ or c++"
    raise UnavailableError(
        f"no C++ compiler ({looked}) was found; install one for several times the speed"
    )


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    kept = ("model name", "flags", "Features", "CPU part")
    return platform.machine() + str(sorted({line for line in lines if line.startswith(kept)}))


def _compiled(folder: Path) -> Path:
    compiler, result = str(_compiler()), folder / "kernels.so"

    def run(*arguments: str) -> None:
        command = [compiler, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if "error" in line]
            said = errors[0] if errors else done.stderr.strip()[-200:]
            raise UnavailableError(f"{compiler} cannot compile the kernels: {said}")

    def unit(number: int) -> str:
        target = str(folder / f"{number}.o")
        source, *defined = UNITS[number]
        run(*FLAGS, *defined, "-c", str(SOURCE / source), "-o", target)
        return target

    with ThreadPoolExecutor(len(UNITS)) as pool:
        objects = list(pool.map(unit, range(len(UNITS))))
    # Not linked against an OpenMP of its own: torch has one, and two would fight for the cores.
    run("-shared", *objects, "-o", str(result))
    return result


def _opened(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise UnavailableError(f"the kernels cannot be loaded: {error}") from None
