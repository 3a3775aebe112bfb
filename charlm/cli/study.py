"""`charlm compare --paper`: the comparisons of a study, one after another, into one folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from charlm.cli.compare import Arguments, carry_out, tell_how_to_go_on
from charlm.compare.study import Group, groups, study_result
from charlm.config.studies import read_study
from charlm.errors import UsageError
from charlm.files import json_bytes
from charlm.files import replace as replace_file
from charlm.reports import study as report
from charlm.runs.finding import claim_path
from charlm.terminal import console
from charlm.terminal import study as terminal

RESULT = "study.json"


def study(name: str, given: Arguments, out: Path | None, *, as_json: bool, quiet: bool) -> int:
    """Carry a study out, or on; return the number of the signal that ended it."""
    console.show_log(quiet=quiet)
    found = read_study(name)
    if given.cells or given.match != "parameters":
        what = "CELL..." if given.cells else "--match"
        raise UsageError(f"--paper {name} has cells and terms of its own", f"leave {what} out")
    seeds = found.seeds if given.seeds is None else given.seeds
    terms = replace(given, cells=found.cells, config=found.config, seeds=seeds)
    planned = groups(found)
    path = out or claim_path(name)
    finished: list[tuple[Group, dict[str, Any]]] = []
    for number, group in enumerate(planned, start=1):
        if not quiet:
            console.print_status(f"{number} of {len(planned)}: {group.name}", "bold")
        own = replace(terms, changes=[*group.changes, *given.changes])
        result, signalled = carry_out(
            own, path / group.folder, budget=group.parameters, longer=False, quiet=quiet
        )
        if result is None:
            tell_how_to_go_on(given.command(paper=name), path)
            return signalled
        finished.append((group, result))
    summary = study_result(name, found, finished)
    summary["command"] = given.command(paper=name)
    summary["report"] = str(path / report.PAGE)
    replace_file(path / RESULT, json_bytes(summary))
    report.write(summary, path)
    if as_json:
        console.print_json(summary)
    elif not quiet:
        terminal.conclude(summary)
    return 0
