"""Speed of training and sampling beside other programs, against stock PyTorch in the same state.

    python tests/benchmarks/busy.py TEXT [--rounds 3]

TEXT: 60 KB, on which `charlm train TEXT` takes an LSTM of 136 units, 16 lanes of 32. States: idle;
one busy program of one thread beside; the same training started twice (each of both). Every round
takes all ways in turn; the table has the medians and all values, in characters a second.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SHAPE = ["--cell", "lstm", "--hidden", "136", "--layers", "1", "--batch", "16"]
SHAPE += ["--length", "32", "--repeats", "1000"]
WRITTEN = 500_000
"""Characters of a sample: long enough for the start of the process not to count."""


def command(way: str, text: str, folder: str) -> list[str]:
    """Return the command of one way."""
    if way == "charlm":
        run = tempfile.mkdtemp(dir=folder) + "/run"
        return ["-m", "charlm", "train", text, "--run", run, "--json"]
    if way == "sample":
        written = ("--length", str(WRITTEN), "--json")
        return ["-m", "charlm", "sample", f"{folder}/sampled", *written]
    autocast = ("--autocast",) if way == "stock, bfloat16" else ()
    return [str(HERE / "bare_loop.py"), "train", *SHAPE, *autocast]


def start(way: str, text: str, folder: str) -> "subprocess.Popen[str]":
    words = [sys.executable, *command(way, text, folder)]
    variables = dict(os.environ)
    if way == "sample":
        variables["OMP_NUM_THREADS"] = "1"
    quiet: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(words, text=True, env=variables, **quiet)


def speed(process: "subprocess.Popen[str]") -> float:
    """Wait for a process that has just begun; return its characters a second."""
    began = time.perf_counter()
    result = json.loads(process.communicate()[0].strip().splitlines()[-1])
    if process.returncode:
        raise SystemExit(f"a measured program failed: {process.args!r}")
    if "samples" in result:
        return WRITTEN / (time.perf_counter() - began)
    return float(result.get("characters_per_second") or result["chars_per_second"])


@contextlib.contextmanager
def busy(programs: int) -> Iterator[None]:
    """Run programs that compute without a pause."""
    beside = [
        subprocess.Popen([sys.executable, "-c", "while True: sum(range(10 ** 6))"])
        for _ in range(programs)
    ]
    try:
        yield
    finally:
        for program in beside:
            program.kill()
            program.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    seen: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        speed(start("charlm", given.text, folder))  # compiles the kernels, encodes the text
        next(Path(folder).glob("*/run")).rename(f"{folder}/sampled")
        for _ in range(given.rounds):
            for state, programs in (("idle", 0), ("one busy", 1)):
                for way in ("charlm", "stock, float32", "stock, bfloat16", "sample"):
                    with busy(programs):
                        seen.setdefault((state, way), []).append(
                            speed(start(way, given.text, folder))
                        )
            pair = [start("charlm", given.text, folder) for _ in range(2)]
            seen.setdefault(("twice", "charlm"), []).extend(speed(one) for one in pair)
    for (state, way), values in seen.items():
        each = ", ".join(f"{value:,.0f}" for value in values)
        print(f"| {state} | {way} | {statistics.median(values):,.0f} | {each} |")


if __name__ == "__main__":
    main()
