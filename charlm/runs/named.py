"""The files named in a run's configuration: its text, start run and teachers.

This is the only place where they are opened by name, so that a foreign run cannot open anything
that the user has not named on this machine (`charlm.common.consent`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from charlm.common import consent
from charlm.config import loading
from charlm.config.layers import ConfigLayers, ConfigSource, Rank, Resolved
from charlm.config.schema import Config, DataConfig, Mark, ModelConfig, marked
from charlm.runs.finding import find_checkpoint
from charlm.runs.state import read_state
from charlm.text.files import sources, streams, tasks
from charlm.text.files.sources import BUILTIN, STANDARD_LIBRARY

if TYPE_CHECKING:
    from charlm.text.corpus import Corpus

BY_NAME = ("data.path", "train.start_from", "train.teachers")
"""Keys whose values name files to open."""
SHAPE = sorted(key.removeprefix("model.") for key in marked(Mark.SHAPE))
LONGEST_NAME = 60
TAKEN_OVER = {"data.unit", "data.normalize", *marked(Mark.SHAPE)}
"""Keys that a model takes over from its start run."""


def absolute(layers: ConfigLayers, *, texts: bool = True) -> ConfigLayers:
    """Make every name given by the user absolute; a stream becomes a file. Those of a run are
    absolute, or are left unchanged if another user wrote them.

    texts: False leaves those of texts as they are, so that no stream is read.

    Raises: ConfigError, DataError.
    """
    resolved = layers.resolve()
    path, train = resolved.config.data.path, resolved.config.train
    names: dict[str, object] = {}
    if texts and is_users("data.path", resolved.origins):
        paths = [*map(sources.absolute, [path] if isinstance(path, str) else path)]
        names["data.path"] = paths[0] if isinstance(path, str) else paths
    if train.start_from and is_users("train.start_from", resolved.origins):
        names["train.start_from"] = str(Path(train.start_from).absolute())
    if is_users("train.teachers", resolved.origins):
        names["train.teachers"] = [str(Path(run).absolute()) for run in train.teachers]
    return replace(layers, replaced=names)


def remember(resolved: Resolved) -> None:
    """Remember the names given by the user in a configuration, as absolute paths; values from a
    run's own configuration are not the user's."""
    for key in BY_NAME:
        if is_users(key, resolved.origins):
            section, _, name = key.partition(".")
            consent.remember(_names(getattr(getattr(resolved.config, section), name)))


def run_name(layers: ConfigLayers) -> str:
    """Return a name for a run: that of its text or, if that is not local, of the configuration.

    Raises: ConfigError.
    """
    data = layers.resolve().config.data
    first = data.path if isinstance(data.path, str) else data.path[0] if data.path else ""
    if streams.is_numbered(first):
        return "stdin"
    if not first or not sources.is_local(first):
        return layers.name
    plain = re.sub(r"[^\w.-]+", "_", Path(first).absolute().stem).strip("._")
    return plain[:LONGEST_NAME] or "text"


def start_shape(run: str) -> ConfigSource:
    """Return a layer with the values that a model must share with its start run, of which only
    the state is read. Raises: UsageError, CheckpointError."""
    _, config = read_state(find_checkpoint(Path(run)))
    data = {"unit": config.data.unit, "normalize": config.data.normalize}
    values = {"data": data, "model": shape_of(config.model)}
    return ConfigSource(f"the run {run}", values, Rank.START_RUN)


def shape_of(config: ModelConfig) -> dict[str, object]:
    """Return the keys of [model] that two models with the same weights share, with values."""
    return {key: getattr(config, key) for key in SHAPE}


def is_users(key: str, origins: Mapping[str, str]) -> bool:
    """Return True if a value of a configuration was given by the user, not by a run."""
    return origins.get(key, loading.RUN) != loading.RUN


def is_known(data: DataConfig) -> bool:
    """Return True if the user has named all of a run's text on this machine."""
    return not consent.missing(_names(data.path))


def open_text(data: DataConfig, fingerprint: str = "") -> "Corpus":
    """Return the encoded text of a run, read again.

    If the user has not named it on this machine, only its copy in the user's cache is opened.

    fingerprint: of the run's text, to find that copy.

    Raises: NoConsentError if there is no such copy; DataError: see `corpus.prepare`.
    """
    from charlm.text import corpus  # here: it imports numpy

    names = _names(data.path)
    if fingerprint and consent.missing(names) and (own := corpus.cached(fingerprint)):
        return own
    consent.require(names, "text", "if you have the text, or want that one: --data PATH")
    return corpus.prepare(data, corpus.survey(data))


def require_start(config: Config) -> None:
    """Check that a run's start run may be opened. Raises: NoConsentError."""
    names = _names(config.train.start_from)
    consent.require(names, "run to start from", "to open it: --init RUN, by that name")


def require_teachers(config: Config) -> None:
    """Check that a run's teachers may be opened. Raises: NoConsentError."""
    names = _names(config.train.teachers)
    consent.require(names, "teacher", "to open it: --teacher RUN, by that name")


def _names(value: str | Sequence[str]) -> list[str]:
    """List names, except those shipped with charlm or Python or made; paths are made absolute."""
    names = [value] if isinstance(value, str) else value
    own = [name for name in names if name and not _is_shipped(name)]
    return [name if name.startswith("https://") else str(Path(name).absolute()) for name in own]


def _is_shipped(name: str) -> bool:
    return name.startswith((BUILTIN, tasks.PREFIX)) or name == STANDARD_LIBRARY
