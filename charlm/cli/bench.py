"""`charlm bench`."""

import json
from collections.abc import Sequence
from dataclasses import asdict

import torch

from charlm.compare import benchmark
from charlm.terminal import console


def bench(
    cells: Sequence[str],
    shapes: Sequence[str],
    *,
    rounds: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure, and print a line for every cell at every shape as it is known, or all as JSON."""
    console.show_log(quiet=as_json)
    if threads:
        torch.set_num_threads(threads)
    rows: list[benchmark.Row] = []
    for row in benchmark.measure(cells or benchmark.CELLS, shapes or benchmark.SHAPES, rounds):
        if not as_json:
            if not rows:
                console.bench_heading(benchmark.place(), benchmark.BATCH, benchmark.LENGTH)
            console.bench_row(row)
        rows.append(row)
    if as_json:
        window = {"batch_size": benchmark.BATCH, "sequence_length": benchmark.LENGTH}
        listed = [
            {**asdict(row), "engine": row.picked[0], "precision": row.picked[1]} for row in rows
        ]
        for row_json in listed:
            del row_json["picked"]
        print(json.dumps({"place": benchmark.place(), **window, "rows": listed}))
