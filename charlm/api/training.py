"""Training from Python."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from charlm.api.options import PathLike, paths_of
from charlm.backends.device import prepare_process, resolve_device
from charlm.config.schema import Config
from charlm.runs.directory import RunDirectory
from charlm.training import setup, source
from charlm.training.events import Finished, Summary
from charlm.training.prepare import prepare_run
from charlm.training.request import request_run
from charlm.training.trainer import Trainer

log = logging.getLogger(__name__)


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
    name, changes = os.fspath(config) if config is not None else None, paths_of(set)
    threads = torch.get_num_threads()
    try:
        if resume:
            named = source.name_text(name, flags)[1]
            is_named = name or source.names_text(changes, flags)
            begins = source.choose_layers(name, changes, flags) if is_named else None
            resumed = setup.resume(path, changes, named, prepare=_prepare, begins=begins)
            if resumed.differences:
                log.warning(f"not as when the run stopped: {'; '.join(resumed.differences)}")
            return _finish(resumed.trainer, resumed.run)
        prepared = prepare_run(request_run(source.choose_layers(name, changes, flags)))
        _prepare(prepared.config)
        return _finish(*setup.begin(prepared, path))
    finally:
        torch.set_num_threads(threads)


def _prepare(config: Config) -> None:
    prepare_process(resolve_device(config.train.device), config.train.threads)


def _finish(trainer: Trainer, directory: RunDirectory) -> Summary:
    """Train to the end; unlock the directory."""
    try:
        for event in trainer.train(directory):
            if isinstance(event, Finished):
                return event.summary
    finally:
        directory.unlock()
    raise AssertionError("training ends with Finished")
