"""Comparisons of cells on equal terms."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch

from charlm.api.options import PathLike, paths_of, refuse_unknown
from charlm.backends.device import prepare_process, resolve_device
from charlm.common.files import refuse_no_folder
from charlm.comparison import cells as named
from charlm.comparison.execution import Compared, Comparison, Stage
from charlm.comparison.plan import Plan, plan
from charlm.comparison.request import SEEDS, CompareRequest, Match
from charlm.comparison.result import Result
from charlm.comparison.runs import RunnerEvent
from charlm.reports import comparison as report
from charlm.runs.finding import claim_path

Watch = Callable[
    [Comparison], AbstractContextManager[Callable[[Stage | RunnerEvent], object] | None]
]
"""Context manager around a comparison; it yields the function that receives its events."""


class CompareOptions(TypedDict, total=False):
    """Options of `compare`; see `CompareRequest`. set: "section.key=value" each. data: files or
    folders."""

    config: str
    data: PathLike | Sequence[PathLike]
    set: Sequence[str]
    match: Match
    seeds: int
    tune: bool
    task: str
    search: int


def compare(*cells: str, out: PathLike | None = None, **options: Unpack[CompareOptions]) -> Result:
    """Compare cells like `charlm compare`; write the report, and return the result.

    cells: as in "gru:reset_gate=before". out: the folder; finished runs in it are reused; None
        creates `runs/compare-<n>`. options: see `CompareOptions`.

    Returns: the content of compare.json: "rows", "differences", "claims" and so on.

    Raises: UsageError, ConfigError, DataError, DivergedError.
    """
    refuse_unknown(options, CompareOptions)
    refuse_no_folder(None if out is None else Path(out), "--out")
    flags: dict[str, Any] = {}
    if (data := options.get("data")) is not None:
        paths = paths_of(data)
        flags["data.path"] = paths[0] if len(paths) == 1 else paths
    request = CompareRequest(
        cells,
        options.get("config", ""),
        paths_of(options.get("set", ())),
        flags,
        options.get("match", "parameters"),
        options.get("seeds"),
        options.get("tune", False),
        options.get("task", ""),
        options.get("search"),
    )
    named.refuse(
        request.layers(), cells, request.match, SEEDS if request.seeds is None else request.seeds
    )
    planned = planned_comparison(request)
    path = Path(out) if out is not None else claim_path("compare")
    threads = torch.get_num_threads()
    try:
        result = carry_out(planned, path, request.command())
    finally:
        torch.set_num_threads(threads)
    assert result is not None  # nothing stops it
    report.write(result, path)
    return result


def planned_comparison(request: CompareRequest, budget: int = 0) -> Plan:
    """Plan a comparison. budget, Raises: see `plan`."""
    layers = request.layers()
    seeds = SEEDS if request.seeds is None else request.seeds
    match, tune = request.match, request.tune
    made = plan(layers, request.cells, match=match, seeds=seeds, tune=tune, budget=budget)
    return replace(made, search=request.search or 0)


def carry_out(
    planned: Plan,
    path: Path,
    command: str,
    *,
    goes_longer: bool = True,
    watch: Watch = lambda comparison: nullcontext(),
) -> Result | None:
    """Carry a comparison out in a folder, and write its result; return None if it was stopped.

    command: the command line that repeats it. goes_longer: see `Comparison`.
    """
    train = planned.entries[0].config.train
    prepare_process(resolve_device(train.device), train.threads)
    comparison = Comparison(planned, path, goes_longer=goes_longer)
    result = None
    with watch(comparison) as show:
        for event in comparison.run(command):
            if isinstance(event, Compared):
                result = event.result
            elif show is not None:
                show(event)
    if result is not None:
        result["report"] = str(path / report.PAGE)
        comparison.write(result)
    return result
