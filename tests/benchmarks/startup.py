"""From the start of the process to the end of the first training step, against `import torch`.

    python tests/benchmarks/startup.py TEXT [--rounds 9]
    python tests/benchmarks/startup.py TEXT --mistakes [--rounds 5]

With --mistakes: the seconds until each of a few wrong command lines is answered, to be at most 0.3.

The corpus is in the cache and the kernels are compiled: a first run before the rounds sees to that.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STARTED, FOLDER = "CHARLM_BENCHMARK_STARTED", "CHARLM_BENCHMARK_FOLDER"


def first_step(path: str) -> None:
    """Do what `charlm train shakespeare --data TEXT` does, up to its first step."""
    from charlm.__main__ import main
    from charlm.training import learner

    take_step = learner.Learner.take_step

    def timed(self: learner.Learner) -> object:
        take_step(self)
        print(time.time() - float(os.environ[STARTED]), flush=True)
        os._exit(0)

    learner.Learner.take_step = timed  # type: ignore[method-assign, assignment]
    sys.argv = ["charlm", "train", "shakespeare", "--data", path, "--run", os.environ[FOLDER]]
    main()


MISTAKES = (
    "nocommand",
    "train nopreset",
    "train TEXT --set train.stepz=3",
    "train TEXT --set model.cell=ltsm",
    "train --data nofile",
    "train TEXT --run RUN",
    "train TEXT --device gpu",
    "sample nope",
    "sample RUN --clamp x",
    "score RUN nofile",
    "compare ltsm",
    "compare lstm:foo=1",
    "inspect nope",
    "lecture --data nofile",
    "runs nofolder",
    "bench ltsm",
    "init nope",
)


def mistakes(text: str, rounds: int) -> None:
    """Print the median of the seconds until each mistake is answered."""
    charlm = [sys.executable, "-m", "charlm"]
    with tempfile.TemporaryDirectory() as folder:
        run = f"{folder}/run"
        settings = ["--set", "train.steps=2", "--set", "model.hidden_size=8", "--run", run, "-q"]
        subprocess.run([*charlm, "train", text, *settings], check=True, cwd=folder)
        for line in MISTAKES:
            words = [{"TEXT": text, "RUN": run}.get(word, word) for word in line.split()]
            took = []
            for _ in range(rounds):
                began = time.perf_counter()
                done = subprocess.run(
                    [*charlm, *words], cwd=folder, capture_output=True, check=False
                )
                took.append(time.perf_counter() - began)
                assert done.returncode == 2, done.stderr
            print(f"{statistics.median(took):.2f} s  charlm {line}", flush=True)


def seconds(*words: str) -> float:
    began = time.time()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, STARTED: str(began), FOLDER: f"{folder}/run"}
        done = subprocess.run(
            [sys.executable, *words], env=environment, capture_output=True, text=True, check=True
        )
    return float(done.stdout) if done.stdout else time.time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--mistakes", action="store_true", help="Measure wrong command lines.")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.mistakes:
        mistakes(str(Path(args.text).absolute()), args.rounds)
        return
    if args.one:
        first_step(args.text)
    own, bare = (__file__, args.text, "--one"), ("-c", "import torch")
    seconds(*own)
    rounds = [(seconds(*own), seconds(*bare)) for _ in range(args.rounds)]
    charlm, torch = (statistics.median(values) for values in zip(*rounds, strict=True))
    print(f"first step after {charlm:.2f} s, import torch {torch:.2f} s: {charlm / torch:.2f}")


if __name__ == "__main__":
    main()
