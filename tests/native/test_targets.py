"""The kernels build for systems that no test runs on, by the compiler of charlm[compiler]."""

import subprocess
from pathlib import Path

import pytest

from charlm.native import build

TARGETS = {
    "Linux on ARM": ("aarch64-linux-gnu", "-mcpu=neoverse_n1"),
    "Linux on ARM with bfloat16": ("aarch64-linux-gnu", "-mcpu=neoverse_v1"),
    "macOS on ARM": ("aarch64-macos", "-mcpu=apple_m1"),
    "Windows with AVX2": ("x86_64-windows-gnu", "-mcpu=haswell"),
    "Linux with SSE": ("x86_64-linux-gnu", "-mcpu=x86_64"),
}
NO_CHECKS = ("-fno-sanitize=undefined",)
"""Without optimization zig adds checks, whose library it would first build for each target."""
NEED_CXX_LIBRARY = ("macOS on ARM", "Windows with AVX2")
"""Targets whose linking needs the C++ standard library, which zig first builds, in four minutes on
a slow processor. A library for Linux may leave its symbols undefined."""


def compile_for(name: str, *words: str, folder: Path) -> None:
    """Run the extra's compiler for a target, and check that it succeeds without a warning."""
    zig = Path(pytest.importorskip("ziglang").__file__).with_name("zig")
    triple, processor = TARGETS[name]
    own = [flag for flag in build.FLAGS if flag != "-march=native"]
    flags = ["-target", triple, processor, *own, "-O0", "-Wall", "-Wextra", "-Wshadow", *NO_CHECKS]
    command = [str(zig), "c++", *flags, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr


def objects(name: str, folder: Path) -> list[str]:
    """Compile every unit of the kernels; return the names of the objects."""
    compiled = [f"{number}.o" for number in range(len(build.UNITS))]
    for one, (source, *defined) in zip(compiled, build.UNITS, strict=True):
        compile_for(name, *defined, "-c", str(build.SOURCE / source), "-o", one, folder=folder)
    return compiled


@pytest.mark.parametrize("name", NEED_CXX_LIBRARY)
def test_kernels_compile_without_a_warning(name: str, tmp_path: Path) -> None:
    assert all((tmp_path / one).stat().st_size > 0 for one in objects(name, tmp_path))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.nightly if name in NEED_CXX_LIBRARY else ())
        for name in TARGETS
    ],
)
def test_kernels_build_without_a_warning(name: str, tmp_path: Path) -> None:
    undefined = () if name in NEED_CXX_LIBRARY else ("-Wl,-Bsymbolic", "-nostdlib++")
    linked = (*undefined, *objects(name, tmp_path), "-o", "kernels.so")
    compile_for(name, "-shared", *linked, folder=tmp_path)
    assert (tmp_path / "kernels.so").stat().st_size > 0


def test_without_another_compiler_that_of_the_extra_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    pytest.importorskip("ziglang")
    program, word = build._compiler()
    assert program.is_file()
    assert str(word) == "c++"
