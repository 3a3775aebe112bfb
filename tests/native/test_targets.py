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
ON_LINUX = ("-Wl,-Bsymbolic", "-nostdlib++")
"""A library for Linux may leave the names of the C++ library open. Building that library takes half
a minute for each target; for macOS and Windows it is necessary."""


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_kernels_build_without_a_warning(target: tuple[str, str], tmp_path: Path) -> None:
    zig = Path(pytest.importorskip("ziglang").__file__).with_name("zig")
    triple, processor = target
    own = [flag for flag in build.FLAGS if flag != "-march=native"]
    flags = ["-target", triple, processor, *own, "-O0", "-Wall", "-Wextra", "-Wshadow", *NO_CHECKS]

    def compiler(*words: str) -> None:
        command = [str(zig), "c++", *flags, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "warning" not in done.stderr, done.stderr

    objects = [f"{number}.o" for number in range(len(build.UNITS))]
    for one, (source, *defined) in zip(objects, build.UNITS, strict=True):
        compiler(*defined, "-c", str(build.SOURCE / source), "-o", one)
    compiler("-shared", *(ON_LINUX if "linux" in triple else ()), *objects, "-o", "kernels.so")
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
