"""Checks of a command line before torch is imported, which takes two seconds.

Checks that are repeated later are functions shared with the later code.
"""

import contextlib
import logging
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlm.cli.arguments import (
    PAGES,
    SEEDS,
    CompareArguments,
    InspectArguments,
    ScoreArguments,
    TrainArguments,
)
from charlm.cli.options import refuse_no_file, refuse_no_folder
from charlm.compare import cells, measured
from charlm.config import loading
from charlm.config.codec import codec_named
from charlm.config.schema import DataConfig
from charlm.errors import UsageError
from charlm.files import refuse_links
from charlm.runs.directory import refuse_taken
from charlm.runs.finding import find_checkpoint, find_partners, home_of, is_run
from charlm.runs.state import read_state
from charlm.sampling.clamp import parse_clamps
from charlm.text.files import sources
from charlm.text.files.compressed import refuse_unreadable
from charlm.training import request

if TYPE_CHECKING:
    from charlm.config.studies import Study


def train(
    given: TrainArguments, run: Path | None, *, resume: bool, dry_run: bool, processes: int
) -> None:
    """Check `charlm train`. Raises: ConfigError, DataError, UsageError, CheckpointError."""
    if dry_run and (resume or processes > 1):
        other = "--resume" if resume else "--processes"
        raise UsageError(f"{other} and --dry-run go one at a time", "leave one of them out")
    if processes > 1:
        if "WORLD_SIZE" in os.environ:
            raise UsageError(
                "a launcher has started several processes already: WORLD_SIZE is set",
                "leave --processes out, or unset WORLD_SIZE",
            )
        given.refuse_stdin()
    if "WORLD_SIZE" in os.environ:  # one of several processes: they report an error together
        return
    refuse_no_folder(run, "--run")
    if not resume:
        request.refuse_new(given.layers)
        if run is not None and not dry_run:
            refuse_taken(run)
        return
    with _silent():
        existing = request.find_run(run, given.begins)
        if existing is not None:
            request.refuse_resumed(*existing, given.changes, given.all_flags)
        elif given.begins is not None:
            request.refuse_new(given.begins)


def sample(
    run: Path | None,
    which: str,
    options: Mapping[str, Any],
    *,
    others: Sequence[str],
    clamps: Sequence[str],
    novel: bool,
    data: Sequence[str],
) -> Path:
    """Check `charlm sample`; return the folder of the checkpoint.

    options: of [sample]. data: paths of the run's text, if it was moved.

    Raises: UsageError, DataError, CheckpointError.
    """
    if clamps and others:
        raise UsageError("--clamp and --with go one at a time", "leave one of them out")
    folder = find_checkpoint(run, which)
    _, config = read_state(folder)
    loading.with_options(config.sample, options)
    parse_clamps(clamps, config.model)
    if novel and config.data.records == "none":
        raise UsageError(
            "--novel is for a model of records, and this one was trained on a running text",
            "train with --set data.records=lines, or look for copies with --check-copies",
        )
    _refuse_missing(config.data, data)
    _refuse_partners(folder, others)
    return folder


def score(
    run: Path | None, which: str, given: ScoreArguments
) -> tuple[Path, ScoreArguments, DataConfig]:
    """Check `charlm score`; return the folder of the checkpoint, the arguments with the resolved
    text, and the configuration for reading it.

    Raises: UsageError, DataError, CheckpointError.
    """
    if given.adapt and given.window:
        raise UsageError("--adapt and --window go one at a time", "leave one of them out")
    if given.adapt and given.split == "train":
        raise UsageError(
            "--adapt chooses its pace on the train split, so it cannot be judged there",
            "score val, test or a file",
        )
    run, file = _run_and_text(run, given.file, given.split)
    html = given.html
    refuse_no_file(html, "--html")
    if html and file and html.exists() and Path(file).exists() and html.samefile(file):
        raise UsageError(f"{html} is the text that is scored", "name another page")
    folder = find_checkpoint(run, which)
    own = read_state(folder)[1].data
    _refuse_missing(own, given.data)
    data = _with_encoding(own, file, given.encoding)
    if file is not None and file != "-":
        refuse_unreadable(Path(file))
    _refuse_partners(folder, given.others)
    return folder, replace(given, file=file), data


def _with_encoding(data: DataConfig, file: str | None, encoding: str | None) -> DataConfig:
    """Return the configuration for reading a text. Raises: UsageError for a useless or unknown
    encoding."""
    if encoding is None:
        return data
    if file is None or data.unit == "byte":
        whose = "a FILE" if file is None else "a model of characters: this one reads bytes"
        raise UsageError(f"--encoding is for {whose}", "leave it out")
    try:
        return data.model_copy(update={"encoding": codec_named(encoding)})
    except ValueError as error:
        raise UsageError(f"--encoding: {error}", "name a codec of Python, as in cp1251") from None


def _run_and_text(
    run: Path | None, file: str | None, split: str | None
) -> tuple[Path | None, str | None]:
    """Return the run and the text from the arguments. Raises: UsageError if they are ambiguous."""
    if run is not None and file is None and split is None and not run.is_dir():
        run, file = None, str(run)  # a single argument that is not a run is the text
    if run is not None and file is not None and run.is_file() and is_run(Path(file)):
        right = shlex.join(["charlm", "score", file, str(run)])
        raise UsageError(f"{run} is a text and {file} a run: the run comes first", right)
    if file and not Path(file).exists() and sources.is_address(file.replace(":/", "://", 1)):
        raise UsageError(f"{file} is an address, not a file", "download it and name the file")
    if (file is None) == (split is None):
        raise UsageError("give a FILE or a --split, one of them", "charlm score RUN my.txt")
    return run, file


def compare(given: CompareArguments, out: Path | None, paper: str) -> None:
    """Check `charlm compare`. Raises: ConfigError, DataError, UsageError, CheckpointError."""
    refuse_no_folder(out, "--out")
    if not paper:
        layers = loading.load(given.config, given.changes, given.flags)
        cells.refuse(layers, given.cells, given.match, given.seeds or SEEDS)
        return
    from charlm.config.studies import groups, read_study

    study = read_study(paper)
    _refuse_other_terms(paper, study, given)
    for group in groups(study):
        changes = [*group.changes(study), *given.changes]
        layers = loading.load(study.config, changes, given.flags)
        cells.refuse(layers, study.cells, given.match, given.seeds or study.seeds)


def _refuse_other_terms(name: str, study: "Study", given: CompareArguments) -> None:
    """Refuse arguments that a study sets itself. Raises: UsageError."""
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
            f"--tune is for predicting new text, and --paper {name} is about memorization",
            "leave --tune out; --set train.learning_rate=0.02 tries another rate for all",
        )


def inspect(run: Path | None, which: str, views: InspectArguments, out: Path | None) -> Path:
    """Check `charlm inspect`; return the folder of the checkpoint.

    Raises: UsageError, DataError, CheckpointError.
    """
    from charlm.inspect.inputs import read_labelled, refuse_length  # here: they take a moment

    refuse_no_folder(out, "--out")
    if views.gates is not None and views.gates != "-":
        refuse_length(views.gates)
    if views.probe is not None:
        read_labelled(views.probe)
    folder = find_checkpoint(run, which)
    _refuse_missing(read_state(folder)[1].data, views.data)
    if out is None:
        refuse_links(home_of(folder), [PAGES], ", or name another folder: --out FOLDER")
    return folder


def lecture(data: str, out: Path) -> None:
    """Check `charlm lecture`. Raises: UsageError, DataError."""
    refuse_no_folder(out, "--out")
    if data:
        sources.refuse_missing(DataConfig(path=data))


def bench(names: Sequence[str], shapes: Sequence[str]) -> None:
    """Check `charlm bench`. Raises: UsageError, ConfigError."""
    measured.read_models(names, shapes)


def _refuse_missing(own: DataConfig, data: Sequence[str]) -> None:
    """Check that the text named by the user, if any, exists. Raises: DataError."""
    if data:
        sources.refuse_missing(own.model_copy(update={"path": list(data)}))


def _refuse_partners(folder: Path, others: Sequence[str]) -> None:
    with _silent():
        for partner in find_partners(folder, others).values():
            read_state(partner)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Suppress warnings, which the command itself will log again."""
    log = logging.getLogger("charlm")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
