"""Compare ways to train on records: the padding of each, and the cost of one after another.

A batch must be rectangular, and records are of different lengths. `pack_padded_sequence` answers
with sorted batches; charlm lets a lane go from a record to the next and begin anew there, so that
nothing is padded. Steps of both kinds of text are timed in turns.

python tests/benchmarks/packing.py LINES
"""

import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from charlm.config import loading
from charlm.training.learner import Learner, learner_of
from charlm.training.prepare import prepare_run
from charlm.training.request import request_run

LANES, BUCKET = 32, 100
"""Records of a batch; batches whose records are sorted together."""
ROUNDS, STEPS = 9, 20


def padded(lengths: list[int]) -> float:
    """Return the share of padding, where batches of records are as long as their longest."""
    batches = [lengths[at : at + LANES] for at in range(0, len(lengths), LANES)]
    computed = sum(max(batch) * len(batch) for batch in batches)
    return 1 - sum(lengths) / computed


def in_buckets(lengths: list[int]) -> list[int]:
    """Return lengths sorted within buckets, which leaves the batches' order to chance."""
    size = LANES * BUCKET
    return [
        length for at in range(0, len(lengths), size) for length in sorted(lengths[at : at + size])
    ]


def left_out(lengths: list[int], window: int) -> float:
    """Return the share that does not fill a window, where lanes go from record to record."""
    symbols, step = sum(lengths), LANES * window
    return 1 - (symbols // LANES // window) * step / symbols


def learner(text: str, records: str) -> Learner:
    """Return a learner of a text as records or as a running text, at its first step."""
    changes = [f"data.records={records}", "data.split=[1.0, 0.0, 0.0]", "train.eval_every=100000"]
    resolved = prepare_run(request_run(loading.load("shakespeare", changes, {"data.path": text})))
    return learner_of(resolved.config, resolved.corpus)


def seconds(take_step: Callable[[], object]) -> float:
    """Return the seconds of some steps."""
    began = time.perf_counter()
    for _ in range(STEPS):
        take_step()
    return time.perf_counter() - began


def main(text: str) -> None:
    lines = Path(text).read_text(encoding="utf-8").split("\n")
    lengths = [len(line) + 1 for line in lines if line]
    random.Random(0).shuffle(lengths)
    print(f"{len(lengths):,} records, {min(lengths)} to {max(lengths)} symbols with their ends")
    print(f"padding, batches of {LANES} as they come: {padded(lengths):.1%}")
    print(f"padding, sorted in buckets of {BUCKET} batches: {padded(in_buckets(lengths)):.1%}")
    print(f"padding, one after another in a lane: 0 % (left out: {left_out(lengths, 64):.2%})")
    ways = {kind: learner(text, kind) for kind in ("none", "lines")}
    for way in ways.values():
        seconds(way.take_step)
    took = [{kind: seconds(way.take_step) for kind, way in ways.items()} for _ in range(ROUNDS)]
    ratio = statistics.median(one["none"] / one["lines"] for one in took)
    print(f"speed a symbol as lines, beside the same text as one: {ratio:.2f} times")


if __name__ == "__main__":
    main(*sys.argv[1:])
