"""Setup of training: a trainer from a configuration or from a stopped run."""

import contextlib
import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charlm.config.layers import ConfigLayers
from charlm.config.schema import Config, differing_keys, to_toml
from charlm.distributed.ranks import ALONE, Ranks
from charlm.errors import CharlmError, CheckpointError
from charlm.models.recurrent import CharModel
from charlm.runs import checkpoint, named
from charlm.runs.directory import RunDirectory
from charlm.runs.finding import claim_path
from charlm.runs.manifest import intact
from charlm.text import corpus
from charlm.text.corpus import Corpus
from charlm.text.splits import TextStats
from charlm.training import fitting, warm_start
from charlm.training.request import (
    TAKEN_OVER,
    begun_config,
    changed,
    find_run,
    remember_names,
    run_name,
    with_absolute_paths,
    with_shape,
)
from charlm.training.schedule import describe_jump
from charlm.training.trainer import Trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResolvedRun:
    """A configuration resolved against its text. name: of the text, else of the preset. text: its
    files, unless it came from the cache."""

    name: str
    config: Config
    origins: dict[str, str]
    corpus: Corpus
    text: TextStats | None = None


def resolve_run(
    layers: ConfigLayers, *, keep: bool = True, processes: int = 1, reports: bool = True
) -> ResolvedRun:
    """Find and encode the text, and resolve the rules that depend on its length.

    keep: False writes nothing, not even to the cache. processes: number of them that train
        together. reports: True logs that a preset was fitted to a short text.

    Raises: ConfigError, DataError.
    """
    name = run_name(layers)
    layers = with_shape(with_absolute_paths(layers))
    text = corpus.survey(layers.resolve().config.data, keep=keep)
    fitted = fitting.fit(layers, text, keep=keep, processes=processes)
    if fitted.note and reports:
        log.info(fitted.note)
    resolved = fitted.layers.resolve(text.characters)
    if keep:
        named.remember(resolved.config, resolved.origins)
    return ResolvedRun(name, resolved.config, resolved.origins, fitted.corpus, text)


def begin(resolved: ResolvedRun, path: Path | None = None) -> tuple[Trainer, RunDirectory]:
    """Return a trainer at step 0 and its new run directory, locked.

    Raises: UsageError (no such device or backend; `path` is taken or cannot be written), DataError
        (text too short).
    """
    trainer = new_trainer(resolved.config, resolved.corpus)  # first: errors leave no folder
    return trainer, create_directory(resolved, path)


def create_directory(resolved: ResolvedRun, path: Path | None) -> RunDirectory:
    """Return a run's new directory, locked. Raises: UsageError: see `begin`."""
    claimed = path or claim_path(resolved.name)
    try:
        return RunDirectory.create(claimed, resolved.config, resolved.corpus.vocabulary)
    except CharlmError:
        if path is None:
            with contextlib.suppress(OSError):  # it is left where it is no longer empty
                claimed.rmdir()
        raise


def new_trainer(config: Config, encoded: Corpus, ranks: Ranks = ALONE) -> Trainer:
    """Return a trainer at step 0."""
    trainer = Trainer(config, encoded, ranks=ranks)
    if config.train.start_from:
        warm_start.start_from(trainer.learner, config, encoded.vocabulary)
    return trainer


@dataclass(frozen=True)
class Resumed:
    """A resumed run. step: of the checkpoint. folder: of the checkpoint, if there is one.

    differences: changes of environment, because of which the result may differ in its last bits.
    """

    trainer: Trainer
    run: RunDirectory
    config: Config
    step: int
    differences: list[str]
    folder: Path | None = None


def resume(
    path: Path | None,
    changes: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    *,
    name: str = "",
    prepare: Callable[[Config], object] = lambda config: None,
    begins: ConfigLayers | None = None,
    ranks: Ranks = ALONE,
) -> Resumed:
    """Return the trainer of a stopped run, restored from its latest checkpoint or from `path`; a
    run that was stopped before its first checkpoint begins again.

    prepare: called with the configuration before anything is computed. path: None takes the
        latest run, of those called `name` if that is given. changes, flags: as for
        `loading.load`; values that differ from the run's own must be `RESUMABLE`.
        begins: the configuration of a new run if there is none yet; None refuses that.

    Raises: UsageError, ConfigError, DataError (the text has changed), CheckpointError.
    """
    remember_names(begins)
    existing = find_run(path, name, begins)
    if existing is None:
        assert begins is not None
        return _begin_with(begins, path, prepare, ranks)
    run, folder = existing
    run.lock()
    try:
        if folder is None and not run.has_checkpoints():
            return _begin_anew(run, changes, flags, prepare, begins, ranks)
        saved = checkpoint.read(folder or _latest(run))
        config = changed(saved.config, changes, flags)
        CharModel.from_weights(
            config.model, len(saved.vocabulary), saved.weights, saved.vocabulary.end
        )  # raises an error for weights that do not fit
        if jump := describe_jump(saved.step, saved.config.train, config.train):
            log.warning(f"{jump} --run {_shown(saved.folder)}")
        prepare(config)
        named.require_teachers(config)
        encoded = named.open_text(config.data, saved.state.corpus)
        trainer = Trainer(config, encoded, ranks=ranks)
        differences = trainer.resume(saved)
        run.forget_metrics_after(saved.step)
        best = trainer.progress.best
        run.rewind(saved.step, int(best["step"]) if best else None)
        if to_toml(config) != to_toml(saved.config):
            run.write_config(config)
    except BaseException:
        run.unlock()
        raise
    return Resumed(trainer, run, config, saved.step, differences, saved.folder)


def _latest(run: RunDirectory) -> Path:
    """Return the latest checkpoint; if it is damaged, the newest intact one, with a warning."""
    latest = run.find("latest")
    if intact(latest):
        return latest
    log.warning(f"{latest} is damaged")
    try:
        return run.newest_intact()
    except CheckpointError:
        return latest  # reading it raises the error


def _begin_with(
    layers: ConfigLayers, path: Path | None, prepare: Callable[[Config], object], ranks: Ranks
) -> Resumed:
    resolved = resolve_run(layers, processes=ranks.size)
    prepare(resolved.config)
    trainer = new_trainer(resolved.config, resolved.corpus, ranks)
    run = create_directory(resolved, path)
    return Resumed(trainer, run, resolved.config, 0, [])


def _begin_anew(
    run: RunDirectory,
    changes: Sequence[str],
    flags: Mapping[str, Any] | None,
    prepare: Callable[[Config], object],
    begins: ConfigLayers | None,
    ranks: Ranks,
) -> Resumed:
    """Begin a run without a checkpoint again in its own folder, with its own configuration if it
    has written one."""
    try:
        own = begun_config(run)
    except CheckpointError:
        if begins is None:
            raise
        run.unlock()
        return _begin_with(begins, run.path, prepare, ranks)
    config = changed(own, changes, flags)
    prepare(config)
    encoded = text_to_begin_with(config)
    trainer = new_trainer(config, encoded, ranks)
    run.unlock()
    begun = RunDirectory.create(run.path, config, encoded.vocabulary, anew=True)
    return Resumed(trainer, begun, config, 0, [])


def text_to_begin_with(config: Config) -> Corpus:
    """Return the text of a run that begins with its own configuration.

    Raises: NoConsentError if the user has not named the text, start run or teachers.
    """
    named.require_start(config)
    named.require_teachers(config)
    return named.open_text(config.data)


def _shown(folder: Path) -> str:
    """Return a path quoted for a shell, relative if it is below the working directory."""
    here = Path.cwd()
    return shlex.quote(str(folder.relative_to(here) if folder.is_relative_to(here) else folder))


def unlike_run(layers: ConfigLayers, resumed: Resumed) -> list[str]:
    """List the keys in which a configuration differs from the resumed run."""
    characters = sum(split.characters for split in resumed.trainer.corpus.splits.values())
    resolved = with_absolute_paths(layers).resolve(characters)
    differing = differing_keys(resolved.config, resumed.config)
    taken_over = TAKEN_OVER if resolved.config.train.start_from else set()
    fitted = fitting.KEYS - resolved.chosen
    return [key for key in differing if key not in taken_over | fitted]
