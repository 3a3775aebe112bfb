"""From the start of the process to the end of the first training step, against `import torch`.

    python tests/benchmarks/startup.py TEXT [--rounds 9]

The corpus is in the cache and the kernels are compiled: a first run before the rounds sees to that.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

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
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        first_step(args.text)
    own, bare = (__file__, args.text, "--one"), ("-c", "import torch")
    seconds(*own)
    rounds = [(seconds(*own), seconds(*bare)) for _ in range(args.rounds)]
    charlm, torch = (statistics.median(values) for values in zip(*rounds, strict=True))
    print(f"first step after {charlm:.2f} s, import torch {torch:.2f} s: {charlm / torch:.2f}")


if __name__ == "__main__":
    main()
