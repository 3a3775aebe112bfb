"""Beginning and resuming a run, with one process or several.

Of several, the leader (rank 0) goes first: it creates the run's folder, or finds the run to resume.
All others then read that folder.
"""

import contextlib
import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from charlm.common.errors import CharlmError, CheckpointError, UsageError
from charlm.common.version import __version__
from charlm.config.layers import ConfigLayers
from charlm.config.schema import SECTIONS, Config, differing_keys, to_toml
from charlm.distributed.launch_state import refuse_differences, remember_run
from charlm.distributed.ranks import ALONE, Ranks
from charlm.models.recurrent import CharModel
from charlm.runs import checkpoint, named
from charlm.runs.checkpoint import Checkpoint
from charlm.runs.directory import RunDirectory
from charlm.runs.finding import claim_path
from charlm.runs.manifest import intact
from charlm.text.corpus import Corpus
from charlm.training import fitting, warm_start
from charlm.training.prepare import PreparedRun, prepare_run
from charlm.training.request import begun_config, changed, find_run, remember_names, request_run
from charlm.training.schedule import describe_jump
from charlm.training.trainer import Trainer

log = logging.getLogger(__name__)


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


def begin(
    prepared: PreparedRun, path: Path | None = None, ranks: Ranks = ALONE
) -> tuple[Trainer, RunDirectory]:
    """Begin a run: return its trainer, at step 0, and its new directory, locked by the leader.

    Raises: UsageError (no such device or backend; `path` is taken or cannot be written; the ranks
        differ), DataError (text too short).
    """
    config, encoded = prepared.config, prepared.corpus
    _refuse_other_runs(ranks, config, encoded)
    trainer = ranks.in_turn(lambda: new_trainer(config, encoded, ranks))
    _refuse_other_environments(ranks, trainer)
    run = _new_directory(prepared, path) if ranks.leads else None  # last: errors leave no folder
    return trainer, _leaders_directory(run, ranks)


def new_trainer(config: Config, encoded: Corpus, ranks: Ranks = ALONE) -> Trainer:
    """Return a trainer at step 0."""
    trainer = Trainer(config, encoded, ranks=ranks)
    if config.train.start_from:
        warm_start.start_from(trainer.learner, config, encoded.vocabulary)
    return trainer


def resume(
    path: Path | None,
    changes: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    *,
    prepare: Callable[[Config], object] = lambda config: None,
    begins: ConfigLayers | None = None,
    ranks: Ranks = ALONE,
) -> Resumed:
    """Resume a stopped run from its latest checkpoint; a run without a checkpoint begins again.

    path: the run, or the checkpoint to resume from; None takes the latest run, or the latest with
        the name that a run of `begins` would have. changes, flags: as for `loading.load`; only
        `RESUMABLE` keys may differ from the run's own. prepare: called with the configuration
        before the model is made. begins: a new run to begin if there is none to resume; None
        makes that an error.

    Raises: UsageError (no such run; a key that cannot change; the ranks differ, or one cannot read
        the run), ConfigError, DataError (the text has changed), CheckpointError.
    """
    resumption = _Resumption(changes, flags, prepare, ranks)
    resumed = resumption.lead(path, begins) if ranks.leads else None
    folder = ranks.from_first(str(resumed.folder.absolute()) if resumed and resumed.folder else "")
    run = _leaders_directory(resumed.run if resumed else None, ranks)
    if resumed is None:
        remember_names(begins)  # the leader has done this, perhaps on another machine
        resumed = resumption.follow(run, folder)
    _refuse_other_runs(ranks, resumed.config, resumed.trainer.corpus)
    _refuse_other_environments(ranks, resumed.trainer)
    return resumed


@dataclass(frozen=True)
class _Resumption:
    """The resuming of a run on one rank. Arguments and errors: as for `resume`."""

    changes: Sequence[str]
    flags: Mapping[str, Any] | None
    prepare: Callable[[Config], object]
    ranks: Ranks

    def lead(self, path: Path | None, begins: ConfigLayers | None) -> Resumed:
        """Find the run and resume it before all other ranks; lock its directory."""
        remember_names(begins)
        existing = find_run(path, named.run_name(begins) if begins else "")
        if existing is None:
            assert begins is not None
            return self._begin_new(begins, path)
        run, folder = existing
        run.lock()
        try:
            if folder is None and not run.has_checkpoints():
                return self._begin_again(run, begins)
            saved = checkpoint.read(folder or _latest(run))
            config = changed(saved.config, self.changes, self.flags)
            CharModel.from_weights(
                config.model, len(saved.vocabulary), saved.weights, saved.vocabulary.end
            )  # raises an error for weights that do not fit
            if jump := describe_jump(saved.step, saved.config.train, config.train):
                log.warning(f"{jump} --run {_shown(saved.folder)}")
            resumed = self._restore(run, saved, config)
            run.forget_metrics_after(saved.step)
            best = resumed.trainer.progress.best
            run.rewind(saved.step, int(best["step"]) if best else None)
            if to_toml(config) != to_toml(saved.config):
                run.write_config(config)
        except BaseException:
            run.unlock()
            raise
        return resumed

    def follow(self, run: RunDirectory, folder: str) -> Resumed:
        """Resume the leader's run on another rank. folder: of its checkpoint; "" if it begins."""
        if not run.path.is_dir():
            raise UsageError(
                f"rank {self.ranks.rank} does not see the run {run.path} of rank 0",
                "keep runs where all machines find them, to resume them on several",
            )
        if not folder:
            return self._start_over(run, begun_config(run))
        saved = checkpoint.read(Path(folder))
        return self._restore(run, saved, changed(saved.config, self.changes, self.flags))

    def _restore(self, run: RunDirectory, saved: Checkpoint, config: Config) -> Resumed:
        """Restore a trainer from a checkpoint of the run, with a changed configuration."""
        self.prepare(config)
        named.require_teachers(config)
        encoded = named.open_text(config.data, saved.state.corpus)
        trainer = Trainer(config, encoded, ranks=self.ranks)
        differences = trainer.resume(saved)
        return Resumed(trainer, run, config, saved.step, differences, saved.folder)

    def _begin_new(self, layers: ConfigLayers, path: Path | None) -> Resumed:
        """Begin a new run in a new directory."""
        prepared = prepare_run(request_run(layers), processes=self.ranks.size)
        self.prepare(prepared.config)
        trainer = new_trainer(prepared.config, prepared.corpus, self.ranks)
        return Resumed(trainer, _new_directory(prepared, path), prepared.config, 0, [])

    def _begin_again(self, run: RunDirectory, begins: ConfigLayers | None) -> Resumed:
        """Begin again, in its own folder, a run that has no checkpoint; with its own configuration,
        if that was written."""
        try:
            own = begun_config(run)
        except CheckpointError:
            if begins is None:
                raise
            run.unlock()
            return self._begin_new(begins, run.path)
        resumed = self._start_over(run, own)
        run.unlock()
        vocabulary = resumed.trainer.corpus.vocabulary
        begun = RunDirectory.create(run.path, resumed.config, vocabulary, anew=True)
        return replace(resumed, run=begun)

    def _start_over(self, run: RunDirectory, own: Config) -> Resumed:
        """Make a trainer at step 0 for a run with its own configuration, changed.

        Raises: NoConsentError if the user has not named the text, start run or teachers.
        """
        config = changed(own, self.changes, self.flags)
        self.prepare(config)
        named.require_start(config)
        named.require_teachers(config)
        encoded = named.open_text(config.data)
        return Resumed(new_trainer(config, encoded, self.ranks), run, config, 0, [])


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


def _new_directory(prepared: PreparedRun, path: Path | None) -> RunDirectory:
    """Return a run's new directory, locked. Raises: UsageError: see `begin`."""
    claimed = path or claim_path(prepared.name)
    try:
        return RunDirectory.create(claimed, prepared.config, prepared.corpus.vocabulary)
    except CharlmError:
        if path is None:
            with contextlib.suppress(OSError):  # it is left where it is no longer empty
                claimed.rmdir()
        raise


def _leaders_directory(run: RunDirectory | None, ranks: Ranks) -> RunDirectory:
    """Return the leader's directory on all ranks. run: None except on the leader."""
    path = ranks.from_first(str(run.path.absolute()) if run else "")
    if run is None:
        return RunDirectory(Path(path))
    remember_run(ranks, str(run.path))
    return run


def _refuse_other_runs(ranks: Ranks, config: Config, encoded: Corpus) -> None:
    """Check that all ranks have the same text, configuration and versions. Raises: UsageError."""
    keys = {
        f"{section}.{key}": value
        for section in SECTIONS
        for key, value in getattr(config, section).model_dump().items()
    }
    own = {"charlm": __version__, "torch": torch.__version__, "text": encoded.fingerprint}
    refuse_differences(ranks, own | keys)


def _refuse_other_environments(ranks: Ranks, trainer: Trainer) -> None:
    """Check that all ranks compute alike. Raises: UsageError."""
    environment = trainer.environment()
    refuse_differences(ranks, {key: environment[key] for key in ("precision", "backend")})


def _shown(folder: Path) -> str:
    """Return a path quoted for a shell, relative if it is below the working directory."""
    here = Path.cwd()
    return shlex.quote(str(folder.relative_to(here) if folder.is_relative_to(here) else folder))


def unlike_run(layers: ConfigLayers, resumed: Resumed) -> list[str]:
    """List the keys in which a configuration differs from the resumed run."""
    characters = sum(split.characters for split in resumed.trainer.corpus.splits.values())
    resolved = named.absolute(layers).resolve(characters)
    differing = differing_keys(resolved.config, resumed.config)
    taken_over = named.TAKEN_OVER if resolved.config.train.start_from else set()
    fitted = fitting.KEYS - resolved.chosen
    return [key for key in differing if key not in taken_over | fitted]
