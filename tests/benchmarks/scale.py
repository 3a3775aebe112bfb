"""The arithmetic of training on many machines: memory, disk, and what the sums of gradients take.

    python tests/benchmarks/scale.py [--hidden 512] [--layers 2] [--rate 5000]

rate: characters a second of one worker, as `charlm bench` measures it. The tables are what
scale.md shows. A ring sends each worker 2 (N - 1) / N of all gradients, and takes 2 (N - 1) turns.
"""

import argparse

import torch

from charlm.config.schema import ModelConfig
from charlm.models.recurrent import CharModel
from charlm.text.shards import PART

WORKERS = (1, 8, 64, 1024)
GIGABITS = (1, 10, 100)
TURN = 50e-6
"""Seconds that a message takes beside its bytes, on Ethernet."""


def parameters(config: ModelConfig, symbols: int) -> int:
    """Count the weights and biases."""
    with torch.device("meta"):
        return CharModel(config, symbols).parameter_count()


def lane_bytes(config: ModelConfig, length: int) -> int:
    """Return the bytes that a lane of an LSTM holds between forward and backward, in float32: four
    gates, c, h and the gradients of four gates, for every unit and symbol."""
    return 4 * 10 * length * config.hidden_size * config.num_layers


def summing_seconds(workers: int, gigabits: int, size: int) -> float:
    """Return the seconds in which a ring sums gradients of so many bytes."""
    if workers == 1:
        return 0.0
    sent = 2 * (workers - 1) / workers * size
    return sent / (gigabits * 1e9 / 8) + 2 * (workers - 1) * TURN


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--symbols", type=int, default=100)
    parser.add_argument("--lanes", type=int, default=32, help="of one worker")
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--rate", type=float, default=5000.0)
    given = parser.parse_args()
    config = ModelConfig(cell="lstm", hidden_size=given.hidden, num_layers=given.layers)
    count = parameters(config, given.symbols)
    step = given.lanes * given.length / given.rate
    print(f"{count:,} parameters: {4 * count / 1e6:.1f} MB of gradients, half in bfloat16")
    print(f"weights, gradient, two moments, average: {20 * count / 1e6:.0f} MB on every worker")
    print(f"a lane of {given.length} symbols: {lane_bytes(config, given.length) / 1e6:.1f} MB")
    print(f"digests: {32 / PART:.4%} of the symbols")
    print(
        f"a step of a worker: {given.lanes} x {given.length} at {given.rate:,.0f}/s, {step:.3f} s"
    )
    print()
    wires = [f"{gigabits} Gbit/s" for gigabits in GIGABITS]
    print("| workers | lanes | " + " | ".join(f"{w}: float32, bfloat16" for w in wires) + " |")
    print("|---" * (2 + len(wires)) + "|")
    for workers in WORKERS:
        cells = []
        for gigabits in GIGABITS:
            shares = [summing_seconds(workers, gigabits, size * count) / step for size in (4, 2)]
            cells.append(", ".join(f"{share:.1%}" for share in shares))
        print(f"| {workers:,} | {workers * given.lanes:,} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
