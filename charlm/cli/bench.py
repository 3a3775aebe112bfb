"""`charlm bench`."""

from collections.abc import Sequence
from dataclasses import asdict

from charlm.backends.device import prepare_process, resolve_device
from charlm.compare import benchmark
from charlm.compare.measured import BATCH, LENGTH
from charlm.terminal import bench as terminal
from charlm.terminal import console
from charlm.terminal.progress import TaskProgress


def bench(
    cells: Sequence[str],
    shapes: Sequence[str],
    *,
    rounds: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure, and print a line for every cell at every shape at once, or all as JSON."""
    console.show_log(quiet=as_json)
    prepare_process(resolve_device("cpu"), threads or 0)
    rows: list[benchmark.Row] = []
    with TaskProgress():
        for row in benchmark.measure(cells, shapes, rounds):
            if not as_json:
                if not rows:
                    terminal.heading(benchmark.environment(), BATCH, LENGTH)
                terminal.line(row)
            rows.append(row)
    if as_json:
        listed = []
        for row in rows:
            picked = {"backend": row.picked[0], "precision": row.picked[1]}
            listed.append({k: v for k, v in asdict(row).items() if k != "picked"} | picked)
        window = {"batch_size": BATCH, "sequence_length": LENGTH}
        console.print_json({"environment": benchmark.environment(), **window, "rows": listed})
    else:
        console.print_next("charlm", "train", "my.txt", "--dry-run", after=" estimates a run")
