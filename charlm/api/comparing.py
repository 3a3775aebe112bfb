"""Comparisons of cells on equal terms."""

import logging
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch

from charlm.api.options import PathLike, paths_of, refuse_unknown
from charlm.backends.device import prepare_process, resolve_device
from charlm.common.errors import CharlmError, UsageError
from charlm.common.files import json_bytes, refuse_no_folder, write_whole
from charlm.comparison import cells as named
from charlm.comparison.execution import RESULT, Compared, Comparison, Stage
from charlm.comparison.over_texts import result_over_texts
from charlm.comparison.plan import Plan, plan, request_comparison
from charlm.comparison.request import SEEDS, CompareRequest, Match
from charlm.comparison.result import Result
from charlm.comparison.runs import RunnerEvent
from charlm.comparison.series import Part, PartCompared, Series
from charlm.comparison.texts import names_of, refuse_same, series_of_texts
from charlm.reports import comparison as report
from charlm.reports import texts as report_of_texts
from charlm.runs.finding import claim_path

Watch = Callable[
    [Comparison | Series], AbstractContextManager[Callable[[Stage | RunnerEvent], object] | None]
]
"""Context manager around a comparison or series; it yields the function that receives its events.
"""
Finish = Callable[[Part, Result], object]
log = logging.getLogger(__name__)


class CompareOptions(TypedDict, total=False):
    """Options of `compare`; see `CompareRequest`. set: "section.key=value" each. data: a file or
    folder; several are compared separately, and over all."""

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

    Returns: the content of compare.json: "rows", "differences", "claims" and so on; with several
        texts, "texts" with the result on each, and "over_texts".

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
    made = planned(request)
    path = Path(out) if out is not None else claim_path("compare")
    threads = torch.get_num_threads()
    try:
        result = carry_out(made, path, request.command())
    finally:
        torch.set_num_threads(threads)
    assert result is not None  # nothing stops it
    return result


def planned(request: CompareRequest) -> Plan | list[Part]:
    """Plan a comparison or, of several texts, one on each.

    Raises: as `plan`, with the text's name if there are several.
    """
    if len(request.paths) < 2:
        return planned_comparison(request)
    parts = []
    for name, one in zip(names_of(request.paths), request.for_each_text(), strict=True):
        log.info("text %s", name)
        try:
            parts.append(Part(name, name, planned_comparison(one), one.command()))
        except CharlmError as error:
            if _names(error.what, one.paths[0]):
                raise
            what = f"{one.paths[0]}: {error.what}"
            raise type(error)(what, error.advice, error.details) from None
    if task := next((part.plan.task for part in parts if part.plan.task), None):
        raise UsageError(
            f"the task {task.name} has a score of its own, which does not compare with texts'",
            f"compare on it alone: --task {task.name}",
        )
    refuse_same(parts)
    return parts


def _names(message: str, path: str) -> bool:
    """Return True if a message names a path, as given or absolute."""
    names = (path, str(Path(path).absolute()))
    return any(re.search(rf"(?<![\w./-]){re.escape(one)}(?![\w/-])", message) for one in names)


def planned_comparison(request: CompareRequest, budget: int = 0) -> Plan:
    """Plan a comparison. budget: see `plan`. Raises: as `plan` and `request_comparison`; UsageError
    for a device that is not available, before the text is read."""
    requested = request_comparison(request.layers())
    resolve_device(requested.run.layers.resolve().config.train.device)
    seeds = SEEDS if request.seeds is None else request.seeds
    match, tune = request.match, request.tune
    made = plan(requested, request.cells, match=match, seeds=seeds, tune=tune, budget=budget)
    return replace(made, search=request.search or 0)


def carry_out(
    made: Plan | list[Part],
    path: Path,
    command: str,
    watch: Watch = lambda comparison: nullcontext(),
) -> Result | None:
    """Carry a comparison out in a folder, on one text or several; write its result and report.

    made: by `planned`. command: the command line that repeats it.

    Returns: the content of compare.json; None if it was stopped.
    """
    if not isinstance(made, Plan):
        return _carry_out_texts(made, path, command, watch)
    _prepare_process(made)
    comparison = Comparison(made, path)
    result = None
    with watch(comparison) as show:
        for event in comparison.run(command):
            if isinstance(event, Compared):
                result = event.result
            elif show is not None:
                show(event)
    if result is not None:
        _write(comparison, result)
        report.write(result, path)
    return result


def carry_out_series(series: Series, finish: Finish, watch: Watch) -> bool:
    """Carry the comparisons of a series out, and write their results.

    finish: called with each comparison and its result. Returns: False if it was stopped.
    """
    _prepare_process(series.parts[0].plan)
    finished = 0
    with watch(series) as show:
        for event in series.run():
            if isinstance(event, PartCompared):
                _write(event.comparison, event.result)
                finish(event.part, event.result)
                finished += 1
            elif show is not None:
                show(event)
    return finished == len(series.parts)


def _carry_out_texts(
    parts: Sequence[Part], path: Path, command: str, watch: Watch
) -> Result | None:
    """Compare on each of several texts and over all, as `carry_out`."""
    series, texts = series_of_texts(parts, path), dict[str, Result]()

    def finish(part: Part, result: Result) -> None:
        report.write(result, path / part.folder)
        texts[part.name] = result

    if not carry_out_series(series, finish, watch):
        return None
    assert series.plan_file is not None
    result = result_over_texts(texts, series.plan_file.as_json(), command)
    result["report"] = str(path / report.PAGE)
    write_whole(path / RESULT, json_bytes(result))
    report_of_texts.write(result, path)
    return result


def _prepare_process(made: Plan) -> None:
    """Choose the device and threads of a comparison."""
    train = made.entries[0].config.train
    prepare_process(resolve_device(train.device), train.threads)


def _write(comparison: Comparison, result: Result) -> None:
    """Write a result, with the path of its page."""
    result["report"] = str(comparison.path / report.PAGE)
    comparison.write(result)
