"""Measure several processes: two of one thread against one of two threads, the same lanes.

    python tests/benchmarks/processes.py [--steps 12] [--rounds 3] [--reduce float32]

An LSTM of 2 layers of 512 units, 64 lanes of 64 symbols in all; characters a second of the median
step, in turns, and the share of the time that a process waits for the other.
"""

import argparse
import os
import socket
import statistics
import time

import numpy as np
import torch

from charlm.backends.device import keep_freed_memory
from charlm.config.schema import Config
from charlm.distributed.ranks import ALONE, Ranks
from charlm.distributed.start import join
from charlm.training.learner import Learner

LANES, LENGTH, SYMBOLS = 64, 64, 65
WARM_UP = 3


def learner_of(ranks: Ranks, reduce: str) -> Learner:
    model = {"cell": "lstm", "hidden_size": 512, "num_layers": 2, "embedding_size": 32}
    train = {"batch_size": LANES, "sequence_length": LENGTH, "steps": 10_000, "reduce": reduce}
    symbols = np.random.default_rng(0).integers(0, SYMBOLS, 400_000).astype(np.uint8)
    config = Config.model_validate({"model": model, "train": train})
    return Learner(config, symbols, SYMBOLS, ranks=ranks)


def measure(ranks: Ranks, threads: int, steps: int, reduce: str) -> tuple[float, float]:
    """Return characters a second, and the share of the time spent waiting for the others."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    learner = learner_of(ranks, reduce)
    took, waited = [], 0.0
    for number in range(WARM_UP + steps):
        if number == WARM_UP:
            waited = ranks.wait_seconds
        began = time.perf_counter()
        learner.take_step()
        ranks.agree(asked=False, seconds=0.0)  # as the trainer does
        took.append(time.perf_counter() - began)
    took = took[WARM_UP:]
    speed = LANES * LENGTH / statistics.median(took)
    return speed, (ranks.wait_seconds - waited) / sum(took)


def process(number: int, port: int, steps: int, reduce: str, found: "torch.Tensor") -> None:
    """Measure as one of two processes, or as the only one; number: the rank."""
    if port:
        os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2"}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = join() if port else ALONE
    found[number] = torch.tensor(measure(ranks, 1 if port else 2, steps, reduce))
    ranks.leave()
    ranks.close()


def start(processes: int, steps: int, reduce: str) -> tuple[float, float]:
    found = torch.zeros(processes, 2).share_memory_()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1] if processes > 1 else 0
    torch.multiprocessing.spawn(process, (port, steps, reduce, found), nprocs=processes)  # type: ignore[no-untyped-call]
    return found[0, 0].item(), found[:, 1].mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--reduce", choices=["float32", "bfloat16"], default="float32")
    args = parser.parse_args()
    os.environ.pop("OMP_NUM_THREADS", None)
    ratios = []
    for _ in range(args.rounds):
        one, _ = start(1, args.steps, args.reduce)
        two, waiting = start(2, args.steps, args.reduce)
        ratios.append(two / one)
        load = os.getloadavg()[0]
        print(
            f"1 x 2 threads {one:,.0f} characters/s · 2 x 1 thread {two:,.0f} · "
            f"{two / one:.3f} · waiting {waiting:.1%} of the time · load {load:.1f}",
            flush=True,
        )
    print(f"ratio {statistics.median(ratios):.3f} (goal 0.95), sums in {args.reduce}")


if __name__ == "__main__":
    main()
