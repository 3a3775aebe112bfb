"""`charlm compare --paper`: the comparisons of a study, one after another, in one folder."""

import tempfile
from dataclasses import replace
from pathlib import Path

from charlm import outputs
from charlm.cli.arguments import CompareArguments
from charlm.cli.compare import carry_out, planned_comparison, tell_how_to_go_on
from charlm.compare.memorization import memorized, random_settings, write_random_text
from charlm.compare.plan import Plan
from charlm.compare.study import Finished, study_result
from charlm.config.studies import Group, Study, groups, read_study
from charlm.errors import UsageError
from charlm.files import json_bytes, refuse_links
from charlm.files import replace as replace_file
from charlm.reports import comparison as comparison_report
from charlm.reports import study as report
from charlm.runs.finding import claim_path
from charlm.terminal import console
from charlm.terminal import study as terminal

RESULT = "study.json"


def study(
    name: str, given: CompareArguments, out: Path | None, *, as_json: bool, quiet: bool
) -> int:
    """Carry out or continue a study; return the number of the signal that ended it."""
    found = read_study(name)
    seeds = found.seeds if given.seeds is None else given.seeds
    terms = replace(given, cells=found.cells, config=found.config, seeds=seeds)
    planned, command = groups(found), given.command(paper=name)
    with tempfile.TemporaryDirectory() as nowhere:  # refused arguments leave no folder
        _plan(terms, planned[0], found, Path(nowhere))
    path = out or claim_path(name)
    _mark_if_new(path)
    finished: list[Finished] = []
    for number, group in enumerate(planned, start=1):
        if not quiet:
            console.print_status(f"{number} of {len(planned)}: {group.name}", "heading")
        own, folder = _plan(terms, group, found, path), path / group.folder
        refuse_links(path, [group.folder])
        result, signalled = carry_out(own, folder, command, longer=False, quiet=quiet)
        if result is None or signalled:
            tell_how_to_go_on(command, path)
            return signalled
        known = {}
        if found.memorize:
            known = {
                row["cell"]: [memorized(folder / run, own.corpus) for run in row["runs"]]
                for row in result["rows"]
            }
        else:
            comparison_report.write(result, folder)
        finished.append((group, result, known))
    summary = study_result(name, found, finished)
    summary |= {"command": command, "report": str(path / report.PAGE)}
    replace_file(path / RESULT, json_bytes(summary))
    report.write(summary, path)
    if as_json:
        console.print_json(summary)
    elif not quiet:
        terminal.conclude(summary)
        console.print_page(summary["report"])
    return 0


def _mark_if_new(path: Path) -> None:
    """Mark the folder of a new study as written by charlm: it may contain a random text."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not any(path.iterdir()):
            outputs.mark(path)
    except OSError as error:
        raise UsageError(
            f"cannot write the study {path}: {error.strerror}",
            "give an --out that you can write to",
        ) from None


def _plan(terms: CompareArguments, group: Group, study: Study, folder: Path) -> Plan:
    """Plan one comparison of a study; write its random text, if any, to the folder."""
    changes, flags = [*group.changes(study), *terms.changes], {**terms.flags}
    if study.memorize:
        flags["data.path"] = str(write_random_text(folder, group.parameters, study.memorize))
        changes = [*random_settings(), *changes]
    own = replace(terms, changes=changes, flags=flags)
    return planned_comparison(own, budget=group.parameters)
