"""Training from Python."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from charlm.api.loaded import PathLike, paths_of
from charlm.backends.device import exact_float32, resolve_device, use_threads
from charlm.config.schema import Config
from charlm.runs.directory import RunDirectory
from charlm.training import setup, source
from charlm.training.events import Finished, Summary
from charlm.training.prepare import prepare_run
from charlm.training.trainer import Trainer


def train(
    config: PathLike | None = None,
    *,
    data: PathLike | Sequence[PathLike] | None = None,
    set: Sequence[str] = (),
    run: PathLike | None = None,
    resume: bool = False,
) -> Summary:
    """Train like `charlm train CONFIG --data ... --set ... --run RUN`; return the summary.

    config: a preset's name, a `.toml` file, or a text or folder to train on; None means `hello`, or
        `default` if `data` is given. data: files or folders. set: "section.key=value" each.
        run: the run directory; None creates `runs/<text's or preset's name>-<n>`, or resumes the
        latest run. resume: True continues a stopped run, with the values of `set` changed.

    Raises: ConfigError, DataError, UsageError, DivergedError.
    """
    flags: dict[str, Any] = {}
    if data is not None:
        paths = paths_of(data)
        flags["data.path"] = paths[0] if len(paths) == 1 else paths
    path = Path(run) if run is not None else None
    name = os.fspath(config) if config is not None else None
    if resume:
        named = source.name_text(name, flags)[1]
        begins = source.choose_layers(name, set, flags) if name or flags else None
        resumed = setup.resume(path, set, named, prepare=_prepare, begins=begins)
        return _finish(resumed.trainer, resumed.run)
    prepared = prepare_run(source.choose_layers(name, set, flags))
    _prepare(prepared.config)
    with use_threads(prepared.config.train.threads):
        return _finish(*setup.begin(prepared, path))


def _prepare(config: Config) -> None:
    exact_float32(resolve_device(config.train.device))


def _finish(trainer: Trainer, directory: RunDirectory) -> Summary:
    """Train to the end; unlock the directory."""
    try:
        with use_threads(trainer.config.train.threads):
            for event in trainer.train(directory):
                if isinstance(event, Finished):
                    return event.summary
    finally:
        directory.unlock()
    raise AssertionError("training ends with Finished")
