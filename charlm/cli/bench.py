"""`charlm bench`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli.options import Debug, Json, Threads

if TYPE_CHECKING:
    from charlm.comparison.benchmark import Row


def bench(
    cells: Annotated[
        list[str] | None,
        typer.Argument(metavar="CELL...", help="As in: rnn lstm gru gru:reset_gate=before."),
    ] = None,
    shapes: Annotated[
        list[str] | None,
        typer.Option("--shape", metavar="HxL", help="Width x layers, as in 512x2. Repeatable."),
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, max=1000, help="Repetitions; the median is reported.")
    ] = 5,
    as_json: Json = False,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Measure this machine's speed of training and sampling, by the native kernels and by torch."""
    from charlm.config.cell_spec import parse_cell

    for cell in cells or []:
        parse_cell(cell)
    from charlm.comparison.measured import BATCH, LENGTH, read_models

    read_models(cells or [], shapes or [])
    from charlm.backends.device import prepare_process, resolve_device  # only now: torch
    from charlm.comparison import benchmark
    from charlm.terminal import bench as terminal
    from charlm.terminal import console
    from charlm.terminal.progress import TaskProgress

    console.show_log(quiet=as_json)
    prepare_process(resolve_device("cpu"), threads or 0)
    rows: list[Row] = []
    with TaskProgress():
        for row in benchmark.measure(cells or [], shapes or [], rounds):
            if not as_json:
                if not rows:
                    terminal.heading(benchmark.environment(), BATCH, LENGTH)
                terminal.line(row)
            rows.append(row)
    if as_json:
        window = {"batch_size": BATCH, "sequence_length": LENGTH}
        listed = [_as_json(row) for row in rows]
        console.print_json({"environment": benchmark.environment(), **window, "rows": listed})
    else:
        console.print_next("charlm", "train", "my.txt", "--dry-run", after=" estimates a run")


def _as_json(row: "Row") -> dict[str, Any]:
    picked = {"backend": row.picked[0], "precision": row.picked[1]}
    return {key: value for key, value in asdict(row).items() if key != "picked"} | picked
