"""`charlm compare --paper`: the comparisons of a study, one after another, in one folder."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlm.common.errors import UsageError

if TYPE_CHECKING:
    from charlm.comparison.plan import Plan
    from charlm.comparison.request import CompareRequest
    from charlm.comparison.study import Finished
    from charlm.config.studies import Group, Study

RESULT = "study.json"


def study(
    name: str, request: "CompareRequest", out: Path | None, *, as_json: bool, quiet: bool
) -> int:
    """Carry out or continue a study; return the exit code."""
    from charlm.config.studies import groups, read_study  # only now: it takes a moment

    known = read_study(name)
    _check(name, known, request)
    from charlm.api.comparing import carry_out_series  # only now: it imports torch
    from charlm.cli.watching import Watching, print_how_to_go_on
    from charlm.common.files import json_bytes
    from charlm.common.files import replace as replace_file
    from charlm.comparison.memorization import memorized
    from charlm.comparison.series import Part, Series, make_folder
    from charlm.comparison.study import study_result
    from charlm.reports import comparison as comparison_report
    from charlm.reports import study as report
    from charlm.runs.finding import claim_path
    from charlm.terminal import console
    from charlm.terminal import study as terminal

    terms = terms_of(known, request)
    planned, command = {group.folder: group for group in groups(known)}, request.command(paper=name)
    with tempfile.TemporaryDirectory() as nowhere:  # refused arguments leave no folder
        for group in planned.values():
            _plan(terms, group, known, Path(nowhere))
    path = out or claim_path(name)
    make_folder(path)
    parts = [
        Part(group.name, group.folder, _plan(terms, group, known, path), command)
        for group in planned.values()
    ]
    finished: list[Finished] = []

    def finish(part: Part, result: dict[str, Any]) -> None:
        folder, accuracies = path / part.folder, {}
        if known.memorize:
            accuracies = {
                row["cell"]: [memorized(folder / run, part.plan.corpus) for run in row["runs"]]
                for row in result["rows"]
            }
        else:
            comparison_report.write(result, folder)
        finished.append((planned[part.folder], result, accuracies))

    watching = Watching(quiet=quiet)
    if not carry_out_series(Series(parts, path, "comparison", goes_longer=False), finish, watching):
        print_how_to_go_on(command, path)
        return watching.code
    summary = study_result(name, known, finished)
    summary |= {"command": command, "report": str(path / report.PAGE)}
    replace_file(path / RESULT, json_bytes(summary))
    report.write(summary, path)
    if as_json:
        console.print_json(summary)
    elif not quiet:
        terminal.conclude(summary)
        console.print_page(summary["report"])
    return 0


def terms_of(study: "Study", request: "CompareRequest") -> "CompareRequest":
    """Return the request for a study's comparisons: seeds and search are the study's unless the
    user asks for others."""
    seeds = study.seeds if request.seeds is None else request.seeds
    search = study.search if request.search is None and not request.tune else request.search
    return replace(request, cells=study.cells, config=study.config, seeds=seeds, search=search)


def _check(name: str, study: "Study", request: "CompareRequest") -> None:
    """Check the arguments before torch is imported. Raises: ConfigError, DataError, UsageError,
    CheckpointError."""
    from charlm.comparison import cells
    from charlm.config import loading
    from charlm.config.studies import groups

    _refuse_other_terms(name, study, request)
    for group in groups(study):
        changes = [*group.changes(study), *request.changes]
        layers = loading.load(study.config, changes, request.flags)
        cells.refuse(layers, study.cells, request.match, request.seeds or study.seeds)


def _refuse_other_terms(name: str, study: "Study", request: "CompareRequest") -> None:
    """Refuse arguments that a study sets itself. Raises: UsageError."""
    for there, what in (
        (request.cells, "CELL..."),
        (request.match != "parameters", "--match"),
        (request.config not in ("", study.config), "--config"),
        (request.task, "--task"),
    ):
        if there:
            raise UsageError(f"--paper {name} has cells and terms of its own", f"leave {what} out")
    own = {"model.hidden_size", *study.vary}
    for change in request.changes:
        if change.partition("=")[0].strip() in own:
            raise UsageError(f"--paper {name} chooses {change.partition('=')[0]}", "leave it out")
    sets_data = any(change.strip().startswith("data.") for change in request.changes)
    if study.memorize and ("data.path" in request.flags or sets_data):
        raise UsageError(
            f"--paper {name} is about random text, which it draws",
            "leave --data and data.* out",
        )
    if study.memorize and (request.tune or request.search):
        option = "--tune" if request.tune else "--search"
        raise UsageError(
            f"{option} is for predicting new text, and --paper {name} is about memorization",
            f"leave {option} out; --set train.learning_rate=0.02 tries another rate for all",
        )
    if len(request.paths) > 1:
        raise UsageError(
            f"--paper {name} compares on one text, and --data names {len(request.paths)}",
            "give one, or a folder that holds them",
        )


def _plan(terms: "CompareRequest", group: "Group", study: "Study", folder: Path) -> "Plan":
    """Plan one comparison of a study; write its random text, if any, to the folder."""
    from charlm.api.comparing import planned_comparison
    from charlm.comparison.memorization import random_settings, write_random_text
    from charlm.terminal.progress import TaskProgress

    changes, flags = [*group.changes(study), *terms.changes], {**terms.flags}
    if study.memorize:
        flags["data.path"] = str(write_random_text(folder, group.parameters, study.memorize))
        changes = [*random_settings(), *changes]
    own = replace(terms, changes=changes, flags=flags)
    with TaskProgress():
        return planned_comparison(own, budget=group.parameters)
