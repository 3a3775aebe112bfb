"""`charlm compare --paper`: the comparisons of a study, one after another, into one folder."""

import tempfile
from dataclasses import replace
from pathlib import Path

from charlm import outputs
from charlm.cli.compare import Arguments, carry_out, planned_comparison, tell_how_to_go_on
from charlm.compare.memorization import memorized, random_settings, write_random_text
from charlm.compare.plan import Plan
from charlm.compare.study import Finished, Group, groups, study_result
from charlm.config.studies import Study, read_study
from charlm.errors import UsageError
from charlm.files import json_bytes
from charlm.files import replace as replace_file
from charlm.reports import comparison as comparison_report
from charlm.reports import study as report
from charlm.runs.finding import claim_path
from charlm.terminal import console
from charlm.terminal import study as terminal

RESULT = "study.json"


def study(name: str, given: Arguments, out: Path | None, *, as_json: bool, quiet: bool) -> int:
    """Carry a study out, or on; return the number of the signal that ended it."""
    console.show_log(quiet=quiet)
    found = read_study(name)
    _refuse_other_terms(name, found, given)
    seeds = found.seeds if given.seeds is None else given.seeds
    terms = replace(given, cells=found.cells, config=found.config, seeds=seeds)
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", "give a folder to --out")
    planned, command = groups(found), given.command(paper=name)
    with tempfile.TemporaryDirectory() as nowhere:  # what is refused leaves no folder behind
        _plan(terms, planned[0], found, Path(nowhere))
    path = out or claim_path(name)
    _mark_if_new(path)
    finished: list[Finished] = []
    for number, group in enumerate(planned, start=1):
        if not quiet:
            console.print_status(f"{number} of {len(planned)}: {group.name}", "bold")
        own, folder = _plan(terms, group, found, path), path / group.folder
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
    return 0


def _mark_if_new(path: Path) -> None:
    """Mark the folder of a study that begins: a random text in it looks like any other text."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not any(path.iterdir()):
            outputs.mark(path)
    except OSError as error:
        raise UsageError(
            f"cannot write the study {path}: {error.strerror}",
            "give an --out that you can write to",
        ) from None


def _refuse_other_terms(name: str, study: Study, given: Arguments) -> None:
    """Refuse what a study decides itself. Raises: UsageError."""
    for there, what in (
        (given.cells, "CELL..."),
        (given.match != "parameters", "--match"),
        (given.config != study.config, "--config"),
    ):
        if there:
            raise UsageError(f"--paper {name} has cells and terms of its own", f"leave {what} out")
    own = {"model.hidden_size", *study.vary}
    for change in given.changes:
        if change.partition("=")[0].strip() in own:
            raise UsageError(f"--paper {name} chooses {change.partition('=')[0]}", "leave it out")
    sets_data = any(change.strip().startswith("data.") for change in given.changes)
    if study.memorize and ("data.path" in given.flags or sets_data):
        raise UsageError(
            f"--paper {name} is about random text, which it draws",
            "leave --data and data.* out",
        )
    if study.memorize and given.tune:
        raise UsageError(
            f"--tune looks for what predicts new text, and --paper {name} asks what is remembered",
            "leave --tune out; --set train.learning_rate=0.02 tries another rate for all",
        )


def _plan(terms: Arguments, group: Group, study: Study, folder: Path) -> Plan:
    """Plan one comparison of a study; where it is about a random text, write that to the folder."""
    changes, flags = [*group.changes(study), *terms.changes], {**terms.flags}
    if study.memorize:
        flags["data.path"] = str(write_random_text(folder, group.parameters, study.memorize))
        changes = [*random_settings(), *changes]
    own = replace(terms, changes=changes, flags=flags)
    return planned_comparison(own, budget=group.parameters)
