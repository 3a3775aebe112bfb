"""`charlm compare --paper`: the comparisons of a study, one after another, into one folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from charlm.cli.compare import Arguments, carry_out, tell_how_to_go_on
from charlm.compare.memorization import TRAIN_SHARE, memorized, random_text
from charlm.compare.study import Finished, Group, groups, study_result
from charlm.config.studies import Study, read_study
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
    if found.memorize and "data.path" in given.flags:
        raise UsageError(f"--paper {name} is about random text, which it draws", "leave --data out")
    seeds = found.seeds if given.seeds is None else given.seeds
    terms = replace(given, cells=found.cells, config=found.config, seeds=seeds)
    planned = groups(found)
    path = out or claim_path(name)
    finished: list[Finished] = []
    for number, group in enumerate(planned, start=1):
        if not quiet:
            console.print_status(f"{number} of {len(planned)}: {group.name}", "bold")
        own = replace(terms, changes=[*group.changes(found), *given.changes])
        if found.memorize:
            own = replace(own, **_random_text(own, group, found, path))
        result, signalled = carry_out(
            own, path / group.folder, budget=group.parameters, longer=False, quiet=quiet
        )
        if result is None:
            tell_how_to_go_on(given.command(paper=name), path)
            return signalled
        finished.append((group, result, _memorized(result, path / group.folder, found)))
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


def _random_text(given: Arguments, group: Group, study: Study, folder: Path) -> dict[str, Any]:
    """Write the text that a comparison is to learn by heart; return what is given for it."""
    text = random_text(group.parameters, study.memorize)
    path = folder / f"random-{len(text)}.txt"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        replace_file(path, text.encode())
    split = f"data.split=[{TRAIN_SHARE},{1 - TRAIN_SHARE:.3g},0.0]"
    return {
        "flags": {**given.flags, "data.path": str(path)},
        "changes": [split, "data.held_out_limit=0", *given.changes],
    }


def _memorized(result: dict[str, Any], folder: Path, study: Study) -> dict[str, list[float]]:
    """Measure what every run of a comparison knows by heart, if the study asks for it."""
    if not study.memorize:
        return {}
    return {row["cell"]: [memorized(folder / run) for run in row["runs"]] for row in result["rows"]}
