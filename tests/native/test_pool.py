"""The threads of the kernels, in a program of their own with the thread sanitizer in it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from charlm.native import build


@pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++ here")
def test_every_job_is_computed_whole_and_without_a_race(tmp_path: Path) -> None:
    program = tmp_path / "pool"
    source = Path(__file__).with_name("pool.cpp")
    flags = ["-std=c++17", "-O1", "-g", "-pthread", "-fsanitize=thread", "-I", str(build.SOURCE)]
    subprocess.run(["g++", *flags, str(source), "-o", str(program)], check=True)
    alone = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(
        [program], capture_output=True, text=True, check=False, timeout=120, env=alone
    )
    assert done.returncode == 0, done.stdout + done.stderr
