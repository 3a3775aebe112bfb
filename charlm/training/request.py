"""Requests for a new run or for changes to a resumed one, and the checks that need no text.

Importing this does not import torch, so that mistakes are reported quickly.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from charlm.common.errors import CheckpointError, UsageError
from charlm.config import loading
from charlm.config.layers import ConfigLayers, ConfigSource
from charlm.config.schema import (
    Config,
    Mark,
    TrainConfig,
    differing_keys,
    marked,
    to_toml,
)
from charlm.runs import named
from charlm.runs.directory import RunDirectory, is_taken
from charlm.runs.finding import find_checkpoint, locate
from charlm.runs.state import read_state
from charlm.text.files import sources

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunRequest:
    """A new run, as requested: the names of its files are absolute.

    name: see `named.run_name`. layers: the configuration. shape: the layer in it with the start
    run's shape, if it has a start run.
    """

    name: str
    layers: ConfigLayers
    shape: tuple[ConfigSource, ...] = ()

    def complete(self, layers: ConfigLayers) -> ConfigLayers:
        """Return a configuration that names the same files, with their names made absolute and the
        layer of the start run's shape added."""
        return replace(layers.with_layers(self.shape), replaced=self.layers.replaced)


def request_run(layers: ConfigLayers, *, keep: bool = True) -> RunRequest:
    """Make the names in a configuration absolute, copy a stream to a file, and read the shape of
    the start run; remember the names that the user gave.

    keep: True remembers the names.

    Raises: ConfigError, DataError, UsageError and CheckpointError (unusable start run).
    """
    name = named.run_name(layers)
    start = layers.resolve().config.train.start_from
    shape = (named.start_shape(str(Path(start).absolute())),) if start else ()
    layers = named.absolute(layers.with_layers(shape))
    if keep:
        named.remember(layers.resolve())
    return RunRequest(name, layers, shape)


def remember_names(layers: ConfigLayers | None) -> None:
    """Remember the texts and runs that the user has named, if any."""
    if layers is not None:
        named.remember(named.absolute(layers).resolve())


def changed(own: Config, changes: Sequence[str], flags: Mapping[str, Any] | None) -> Config:
    """Return the configuration of a run with changes, and remember the texts that they name.

    Raises: UsageError for a key that is not `RESUMABLE`.
    """
    resolved = named.absolute(loading.on_top_of(to_toml(own), changes, flags)).resolve()
    _refuse_unresumable(resolved.config, own)
    named.remember(resolved)
    return resolved.config


def _refuse_unresumable(config: Config, own: Config) -> None:
    resumable = marked(Mark.RESUMABLE)
    if refused := sorted(set(differing_keys(config, own)) - resumable):
        raise UsageError(
            f"{', '.join(refused)} cannot change when a run is resumed",
            f"start a new run, or change only {', '.join(sorted(resumable))}",
        )


def find_run(path: Path | None, name: str) -> tuple[RunDirectory, Path | None] | None:
    """Find the run to resume, and the checkpoint if `path` is one; None if there is no run yet.

    path: None takes the latest run, or the latest of `name`. name: the name that a new run would
        have; "" if there must be a run.

    Raises: UsageError if `path` is no run, or if there is none and `name` is "".
    """
    try:
        return locate(path, name=name, begun=True)
    except UsageError as error:
        if not name or (path is not None and is_taken(path)):
            raise
        log.info(f"{error.what}: beginning one")
        return None


def check_new(layers: ConfigLayers) -> None:
    """Check everything about a new run that is known before its text is read.

    Raises: ConfigError, DataError (missing text), UsageError and CheckpointError (unusable start
        run or teacher).
    """
    layers.resolve_every_size()
    config = layers.resolve().config
    sources.refuse_missing(config.data)
    refuse_unusable_runs(config.train)
    if config.train.start_from:
        layers.with_layers([named.start_shape(config.train.start_from)]).resolve()


def refuse_unusable_runs(config: TrainConfig) -> None:
    """Check the start run and the teachers of a new run. Raises: UsageError, CheckpointError."""
    for run in filter(None, [config.start_from, *config.teachers]):
        read_state(find_checkpoint(Path(run)))


def check_resumed(
    run: RunDirectory, folder: Path | None, changes: Sequence[str], flags: Mapping[str, Any]
) -> None:
    """Check the changes to a resumed run, without reading stdin.

    folder: of its checkpoint, if one is named. If the latest is damaged, or the configuration of a
        run without one, nothing is checked: an older one may be resumed, or resuming says why not.

    Raises: as `changed`.
    """
    try:
        if folder is None and not run.has_checkpoints():
            own = begun_config(run)
        else:
            _, own = read_state(folder or run.find("latest"))
    except CheckpointError:
        return
    layers = loading.on_top_of(to_toml(own), changes, flags)
    resolved = layers.resolve()
    if named.is_users("data.path", resolved.origins) or named.is_known(resolved.config.data):
        sources.refuse_missing(resolved.config.data)
    _refuse_unresumable(named.absolute(layers, texts=False).resolve().config, own)


def begun_config(run: RunDirectory) -> Config:
    """Read the configuration of a run that has no checkpoint yet. Raises: CheckpointError."""
    path = run.path / "config.toml"
    try:
        text = run.read_config()
    except FileNotFoundError:
        raise CheckpointError(
            f"{run.path} has neither a checkpoint nor a configuration",
            "delete it, and start the run again without --resume",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not in UTF-8"
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
        raise CheckpointError(
            f"{path} cannot be read: {reason}", "check its permissions, or use a copy of it"
        ) from None
    return loading.from_toml(text, str(path))
