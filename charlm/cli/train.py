"""`charlm train`."""

import json
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from charlm.cli.signals import exit_at_once, stopping_on_signals
from charlm.config import loading
from charlm.evaluation.surprisal import distributions
from charlm.runs.directory import RunDirectory
from charlm.terminal import console
from charlm.terminal.training import Progress
from charlm.training import setup
from charlm.training.events import Finished
from charlm.training.setup import Plan
from charlm.training.trainer import Trainer

SMALL_ENOUGH_TO_SHOW = 32
"""Symbols of a text whose every prediction fits on the screen, as in the lecture's example."""


def train(
    config: str | None,
    path: Path | None,
    changes: Sequence[str],
    flags: Mapping[str, Any],
    *,
    resume: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Begin a run or resume one, and train it; returns the number of the signal that ended it."""
    signal.signal(signal.SIGTERM, exit_at_once)
    console.show_log(quiet=quiet)
    if resume:
        trainer, directory = _resume(config, path, changes, flags, quiet=quiet)
    else:
        trainer, directory = _begin(config, path, changes, flags, quiet=quiet)
    try:
        finished, signalled = _watch(trainer, directory, quiet=quiet)
    finally:
        directory.unlock()
    if as_json:
        print(json.dumps(finished.summary))
    elif not quiet:
        _conclude(finished, trainer)
    return signalled


def dry_run(
    config: str | None, changes: Sequence[str], flags: Mapping[str, Any], *, as_json: bool
) -> None:
    """Show what a run would be, and write nothing."""
    console.show_log(quiet=as_json)
    planned = _plan(config, changes, flags, keep=False)
    estimate = Trainer(planned.config, planned.corpus, may_compile=False).estimate()
    if as_json:
        report = {
            "config": planned.config.model_dump(),
            "origins": planned.origins,
            "characters": {name: s.characters for name, s in planned.corpus.splits.items()},
        }
        print(json.dumps({**report, **estimate}))
        return
    console.settings_table(planned.config, planned.origins)
    console.describe(planned.corpus)
    console.estimated(estimate)


def _plan(
    config: str | None, changes: Sequence[str], flags: Mapping[str, Any], *, keep: bool = True
) -> Plan:
    name = config or ("default" if "data.path" in flags else "hello")
    return setup.plan(loading.load(name, changes, flags), keep=keep)


def _begin(
    config: str | None,
    path: Path | None,
    changes: Sequence[str],
    flags: Mapping[str, Any],
    *,
    quiet: bool,
) -> tuple[Trainer, RunDirectory]:
    planned = _plan(config, changes, flags)
    trainer, directory = setup.begin(planned, path)
    if not quiet:
        console.describe(planned.corpus)
        count = trainer.learner.model.parameter_count()
        console.introduce(planned.config, count, trainer.place(), directory.path)
    return trainer, directory


def _resume(
    config: str | None,
    path: Path | None,
    changes: Sequence[str],
    flags: Mapping[str, Any],
    *,
    quiet: bool,
) -> tuple[Trainer, RunDirectory]:
    if config is not None:
        console.warn(f"--resume goes on with the run's own configuration, not with {config}")
    resumed = setup.resume(path, changes, flags)
    if resumed.differences:
        listed = "; ".join(resumed.differences)
        console.warn(f"not as when the run stopped, so the last bits may differ: {listed}")
    if not quiet:
        console.say(f"resuming {resumed.run.path} at step {resumed.checkpoint.step}")
    return resumed.trainer, resumed.run


def _watch(trainer: Trainer, directory: RunDirectory, *, quiet: bool) -> tuple[Finished, int]:
    """Run the loop; a first SIGINT or SIGTERM ends it after the step under way."""
    start = trainer.progress.step
    with (
        stopping_on_signals(trainer.stop) as received,
        Progress(trainer.config.train, start=start, quiet=quiet) as progress,
    ):
        for event in trainer.train(directory):
            progress.show(event)
            if isinstance(event, Finished):
                return event, received[0] if received else 0
    raise AssertionError("training ends with Finished")


def _conclude(finished: Finished, trainer: Trainer) -> None:
    corpus, prompt = trainer.corpus, ""
    if len(corpus.train) <= SMALL_ENOUGH_TO_SHOW:
        given = corpus.symbols[corpus.train.start : corpus.train.stop]
        symbols = [corpus.vocabulary.symbol(index) for index in range(len(corpus.vocabulary))]
        shown = [symbols[index] for index in given]
        rows = distributions(trainer.learner.judged, given[:-1])
        console.predictions_table(shown[:-1], shown[1:], symbols, rows.tolist())
        prompt = shown[0]
    console.conclude(finished.summary, prompt)
