"""The kernels build for systems that no test runs on, by the compiler of charlm[compiler]."""

import os
import subprocess
from pathlib import Path

import pytest

from charlm.native import build

TARGETS = {
    "Linux on ARM": ("aarch64-linux-gnu", "-mcpu=neoverse_n1"),
    "macOS on ARM": ("aarch64-macos", "-mcpu=apple_m1"),
    "Windows with AVX2": ("x86_64-windows-gnu", "-mcpu=haswell"),
    "Linux with SSE": ("x86_64-linux-gnu", "-mcpu=x86_64"),
}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("unit", build.UNITS, ids=lambda unit: " ".join(unit))
def test_kernels_build_without_a_warning(target: tuple[str, str], unit: tuple[str, ...]) -> None:
    folder = Path(pytest.importorskip("ziglang").__file__).parent
    source, *defined = unit
    flags = [flag for flag in build.FLAGS if flag != "-march=native"]
    triple, processor = target
    command = [str(folder / "zig"), "c++", "-target", triple, processor, *flags, "-O0", *defined]
    command += ["-Wall", "-Wextra", "-Wshadow", "-c", str(build.SOURCE / source), "-o", os.devnull]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr


def test_without_another_compiler_that_of_the_extra_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    pytest.importorskip("ziglang")
    program, word = build._compiler()
    assert program.is_file()
    assert str(word) == "c++"
