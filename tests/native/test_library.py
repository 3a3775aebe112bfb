"""The library of the kernels where something fails: opening it, building it, calling it."""

import ctypes
import hashlib
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import begun
from filelock import FileLock

from charlm.backends.step import NativeComputation
from charlm.config.schema import ModelConfig
from charlm.models.recurrent import CharModel
from charlm.native import build, interface, verify
from charlm.native.interface import UNBOUNDED, Kernels
from charlm.native.library import load_library

V = 11


def accept(library: ctypes.CDLL) -> str:
    return ""


@pytest.fixture
def built(kernels: Kernels) -> Path:
    """The library that the tests have built."""
    return build.cached()


@pytest.fixture
def place(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the library in a cache that has none."""
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "cache"))
    path = build.cached()
    path.parent.mkdir(parents=True, mode=0o700)
    return path


def put(content: bytes, path: Path) -> None:
    """Keep a library, with its digest."""
    path.write_bytes(content)
    path.with_suffix(".sha256").write_text(hashlib.sha256(content).hexdigest())


def compiler(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a script in place of the compiler."""
    path = folder / "compiler"
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))


# ---- opening and building -----------------------------------------------------------------------


@pytest.mark.parametrize("keep", [True, False])
def test_library_that_cannot_be_loaded_is_removed_if_the_cache_may_change(
    place: Path, keep: bool
) -> None:
    put(b"linked with a runtime that is gone", place)
    place.with_suffix(".refused").write_text("no such runtime")
    with pytest.raises(build.UnavailableError, match="no such runtime"):
        build.library(accept, keep=keep)
    assert place.exists() != keep


def test_library_that_another_process_has_built_meanwhile_is_taken(
    built: Path, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lock = FileLock(place.with_suffix(".lock"))

    class Other(logging.Handler):
        """The other process: done as soon as this one says that it waits."""

        def emit(self, record: logging.LogRecord) -> None:
            put(built.read_bytes(), place)
            lock.release()

    caplog.set_level(logging.INFO, "charlm")
    log, other = logging.getLogger(build.__name__), Other()
    log.addHandler(other)
    try:
        with lock:
            found = build.library(lambda _: "wrong")
    finally:
        log.removeHandler(other)
    assert caplog.messages == ["another process is compiling the kernels: waiting for it"]
    assert Kernels(found).width == Kernels(load_library()).width


def test_damaged_library_is_built_again_with_a_warning(
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    compiler(tmp_path, "echo 'error: no room' >&2; exit 1", monkeypatch)
    path = build.cached()
    put(b"the library", path)
    path.write_bytes(b"the lib")
    with pytest.raises(build.UnavailableError, match="error: no room"):
        build.library(accept)
    assert f"the compiled kernels in {path} are damaged" in caplog.text


@pytest.mark.parametrize("wrong", ["", "the kernels compute everything wrongly"])
def test_library_that_is_not_kept_is_refused_if_it_computes_wrongly(
    built: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    compiler(tmp_path, f'cp {built} "${{@: -1}}"', monkeypatch)
    seen: list[ctypes.CDLL] = []

    def judged(library: ctypes.CDLL) -> str:
        seen.append(library)
        return wrong

    if wrong:
        with pytest.raises(build.UnavailableError, match=wrong):
            build.library(judged, keep=False)
    else:
        assert build.library(judged, keep=False) is seen[0]
    assert len(seen) == 1
    assert list(place.parent.iterdir()) == []


# ---- compilers that are ended -------------------------------------------------------------------


def test_compiler_that_starts_after_the_signal_is_killed_too() -> None:
    compilers = build._Compilers()
    with pytest.raises(KeyboardInterrupt), compilers.killed_on_signals():
        raise KeyboardInterrupt
    assert compilers.run(["sleep", "60"]) == (-signal.SIGKILL, "")


def test_compiler_that_has_ended_is_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[object] = []
    monkeypatch.setattr(os, "killpg", lambda *given: killed.append(given))
    monkeypatch.setattr(subprocess.Popen, "kill", killed.append)
    with subprocess.Popen(["true"], text=True) as process:
        process.wait()
        build._kill(process)
    assert killed == []
    assert process.returncode == 0


def test_compiler_is_killed_alone_where_there_are_no_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "killpg", lambda *_: pytest.fail("there are no groups"))
    with subprocess.Popen(["sleep", "60"], text=True) as process:
        with monkeypatch.context() as patch:
            patch.setattr(os, "name", "nt")
            build._kill(process)
        assert process.wait() == -signal.SIGKILL


# ---- calling ------------------------------------------------------------------------------------


def test_only_types_of_the_kernels_have_a_name() -> None:
    assert interface.TYPES[torch.bfloat16] == "bfloat16"
    with pytest.raises(KeyError) as caught:
        interface.TYPES[torch.float16]
    assert caught.value.args == (torch.float16,)


def test_library_of_other_structures_is_refused(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = interface._structure("Update", rate=ctypes.c_double)
    monkeypatch.setitem(interface.STRUCTURES, "update", other)
    with pytest.raises(build.UnavailableError, match="Update has another size in the kernels"):
        Kernels(load_library())


def test_address_of_a_buffer_is_that_of_its_first_element() -> None:
    array, tensor = np.zeros(3), torch.zeros(3)
    assert interface.address(array) == array.ctypes.data
    assert interface.address(tensor) == tensor.data_ptr()
    assert interface.address(None) is None


def computation(kernels: Kernels) -> NativeComputation:
    model = CharModel(ModelConfig(cell="lstm", hidden_size=32, embedding_size=4), V)
    model.reset_parameters(0)
    return NativeComputation(model, kernels)


def window(length: int, lanes: int) -> tuple[torch.Tensor, torch.Tensor]:
    both = torch.randint(V, (length + 1, lanes), generator=torch.Generator().manual_seed(0))
    return both[:-1], both[1:]


def test_state_of_another_number_of_parts_is_refused(kernels: Kernels) -> None:
    learning = computation(kernels)
    states = [state[:1] for state in learning.model.initial_states(5)]
    with pytest.raises(ValueError, match="a state of 1 parts, expected 2"):
        learning.loss_and_gradients(*window(4, 5), states)


WITHOUT_MEMORY = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_library import computation, window
from charlm.native.interface import Kernels
from charlm.native.library import load_library

learning = computation(Kernels(load_library()))
states = learning.model.initial_states(5)
small, large = window(4, 5), window(50_000, 5)
before, _ = learning.surprisals(*small, states)
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limits = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (taken + (48 << 20), limits[1]))
try:
    learning.loss_and_gradients(*large, states)
except MemoryError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, limits)
print(learning.surprisals(*small, states)[0].equal(before))
"""
"""Read a window in a process that has not yet freed memory, which it could take again."""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory as Linux does")
@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="has memory of its own")
def test_window_without_memory_is_an_error_and_the_next_one_is_read(
    kernels: Kernels, tmp_path: Path
) -> None:
    process = begun(str(Path(__file__).parent), cwd=tmp_path, code=WITHOUT_MEMORY)
    out, err = process.communicate(timeout=60)
    assert out == "the kernels have no memory for read_window\nTrue\n", err


# ---- verification -------------------------------------------------------------------------------


def test_only_cells_that_the_kernels_compute_are_verified(kernels: Kernels) -> None:
    kernels.kinds = {"indrnn": kernels.kinds["indrnn"]}
    said = [what for _, what in verify._errors(kernels, "float32")]
    wanted = ["indrnn", "a step of indrnn", "writing with indrnn", "adapting with indrnn"]
    assert said == wanted


def test_cells_without_bounds_are_not_verified_in_int8(kernels: Kernels) -> None:
    kernels.kinds = {name: kernels.kinds[name] for name in UNBOUNDED}
    assert list(verify._errors(kernels, "int8")) == []
