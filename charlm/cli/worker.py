"""The training of `charlm train`, in one process or as one of several."""

import contextlib
import traceback
from functools import partial
from pathlib import Path

from charlm.backends.device import prepare_process
from charlm.cli import outcome, signals
from charlm.cli.arguments import TrainArguments
from charlm.cli.options import Debugging
from charlm.cli.outcome import unforeseen
from charlm.common.errors import CharlmError
from charlm.config.schema import Config
from charlm.distributed import error_exchange, launch_state, start
from charlm.distributed.devices import device_of
from charlm.distributed.ranks import Ranks
from charlm.runs.directory import RunDirectory
from charlm.terminal import console
from charlm.terminal import run as terminal
from charlm.terminal.progress import TaskProgress
from charlm.terminal.training import TrainingProgress
from charlm.text.kinds import Kind, kind_of
from charlm.training import setup
from charlm.training.events import Finished
from charlm.training.prepare import PreparedRun, prepare_run
from charlm.training.request import request_run
from charlm.training.trainer import Trainer

SMALL_ENOUGH_TO_SHOW = 32
"""Most symbols of a text whose predictions are printed, as in the lecture's example."""


def train(given: TrainArguments) -> int:
    """Begin or resume a run and train it, together with the other processes of torch's launcher, if
    any; return the exit code."""
    with signals.left_to_the_system() if start.is_one_of_several() else contextlib.nullcontext():
        ranks = start.join()
    quiet = given.quiet or not ranks.leads
    console.show_log(quiet=quiet, warns=ranks.leads)
    try:
        if code := launch_state.remembered_end(ranks):
            return code
        if ranks.size > 1:
            given.refuse_stdin()
        code = _train(given, ranks, quiet=quiet)
        ranks.leave()
        return code
    except (CharlmError, OSError, MemoryError, RuntimeError, ImportError) as error:
        if ranks.size == 1:
            raise
        found = error if isinstance(error, CharlmError) else unforeseen(error)
        printed = error_exchange.report_error(ranks, found)
        try:
            if printed:
                outcome.report(found)
            if printed and Debugging.wanted:
                traceback.print_exc()
        finally:
            error_exchange.wait_until_printed(ranks, printed=printed)
            ranks.close()
            error_exchange.keep_store(ranks, found)
        return found.exit_code
    finally:
        ranks.close()


def _train(given: TrainArguments, ranks: Ranks, *, quiet: bool) -> int:
    """Train a run on all ranks; return the exit code, that of a signal if any rank received one."""
    again = launch_state.remembered_run(ranks)
    path, resume = (Path(again), True) if again else (given.run, given.resume)
    begin = _resume if resume else _begin
    with TaskProgress(quiet=quiet):
        trainer, directory = begin(given, path, ranks, quiet=quiet)
    try:
        finished, signalled = _watch(trainer, directory, quiet=quiet)
    finally:
        directory.unlock()
    if signalled:
        launch_state.remember_end(ranks, 128 + signalled)
    if given.as_json and ranks.leads:
        console.print_json(finished.summary)
    elif not quiet:
        with contextlib.suppress(OSError):  # summary.json has the same, if stdout is closed
            _conclude(finished, trainer)
    return 128 + signalled if signalled else 0


def suggestion(given: TrainArguments, resolved: PreparedRun) -> tuple[Kind | None, str]:
    """Return the kind of a text that has a better preset, and the command that uses it; None and ""
    if there is none, or if the user has chosen a preset or records."""
    preset, flags = given.named
    chosen = {"data.records", "data.field"} & resolved.origins.keys()
    if preset != "default" or given.source == "default" or chosen:
        return None, ""
    kind = kind_of(resolved.corpus)
    if kind is None:
        return None, ""
    paths = flags.get("data.path", [])  # else --set names the text
    listed = [paths] if isinstance(paths, str) else paths
    return kind, terminal.suggested(kind, listed, given.changes)


def _prepare(config: Config, ranks: Ranks) -> None:
    prepare_process(device_of(ranks, config.train.device), config.train.threads)


def _begin(
    given: TrainArguments, path: Path | None, ranks: Ranks, *, quiet: bool
) -> tuple[Trainer, RunDirectory]:
    resolved = ranks.in_turn(lambda: prepare_run(request_run(given.layers), processes=ranks.size))
    _prepare(resolved.config, ranks)
    trainer, directory = setup.begin(resolved, path, ranks)
    if not quiet:
        terminal.describe(resolved.corpus, resolved.text)
        kind, command = suggestion(given, resolved)
        if kind:
            terminal.suggest(kind, command)
        count = trainer.learner.model.parameter_count()
        terminal.introduce(resolved.config, count, trainer.environment(), directory.path)
    return trainer, directory


def _resume(
    given: TrainArguments, path: Path | None, ranks: Ranks, *, quiet: bool
) -> tuple[Trainer, RunDirectory]:
    resumed = setup.resume(
        path,
        given.changes,
        given.named[1],
        prepare=partial(_prepare, ranks=ranks),
        begins=given.begins,
        ranks=ranks,
    )
    if not ranks.leads:
        return resumed.trainer, resumed.run
    if given.names_config and (unlike := setup.unlike_run(given.layers, resumed)):
        console.warn(
            f"the run continues with its own configuration, which differs from {given.source} in "
            + ", ".join(unlike)
        )
    if resumed.differences:
        listed = "; ".join(resumed.differences)
        console.warn(f"not as when the run stopped, so the last bits may differ: {listed}")
    if not quiet:
        how = f"resuming {resumed.run.path} at step {resumed.step}"
        console.print_status(how if resumed.step else f"run         {resumed.run.path}")
    return resumed.trainer, resumed.run


def _watch(trainer: Trainer, directory: RunDirectory, *, quiet: bool) -> tuple[Finished, int]:
    """Run the loop; a first signal ends it after the current step."""
    start = trainer.progress.step
    with (
        signals.stopping_on_signals(trainer.stop, insistent=trainer.ranks.size == 1) as received,
        TrainingProgress(trainer.config.train, start=start, quiet=quiet) as progress,
    ):
        for event in trainer.train(directory):
            progress.show(event)
            if isinstance(event, Finished):
                return event, trainer.ranks.greatest(received[0] if received else 0)
    raise AssertionError("training ends with Finished")


def _conclude(finished: Finished, trainer: Trainer) -> None:
    corpus, prompt = trainer.corpus, ""
    if len(corpus.train) <= SMALL_ENOUGH_TO_SHOW:
        given = corpus.stretch("train").read()
        symbols = [corpus.vocabulary.symbol(index) for index in range(len(corpus.vocabulary))]
        shown = [symbols[index] for index in given]
        rows = trainer.learner.distributions(given[:-1])
        terminal.predictions_table(shown[:-1], shown[1:], symbols, rows.tolist())
        prompt = shown[0]
    terminal.conclude(finished.summary, prompt)
