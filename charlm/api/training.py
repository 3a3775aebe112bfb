"""Training from Python."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from charlm.api.loaded import PathLike, paths_of
from charlm.backends.device import exact_float32, resolve_device, use_threads
from charlm.training import setup, source
from charlm.training.events import Finished
from charlm.training.prepare import prepare_run


def train(
    config: PathLike | None = None,
    *,
    data: PathLike | Sequence[PathLike] | None = None,
    set: Sequence[str] = (),
    run: PathLike | None = None,
) -> dict[str, Any]:
    """Train like `charlm train CONFIG --data ... --set ... --run RUN`; return the summary.

    config: a preset's name, a `.toml` file, or a text or folder to train on; None means `hello`, or
        `default` if `data` is given. data: files or folders. set: "section.key=value" each.
        run: the run directory; None creates `runs/<text's or preset's name>-<n>`.

    Returns: the output of `charlm train --json`: "run", "steps", "best" and so on.

    Raises: ConfigError, DataError, UsageError, DivergedError.
    """
    flags: dict[str, Any] = {}
    if data is not None:
        paths = paths_of(data)
        flags["data.path"] = paths[0] if len(paths) == 1 else paths
    layers = source.choose_layers(os.fspath(config) if config is not None else None, set, flags)
    resolved = prepare_run(layers)
    exact_float32(resolve_device(resolved.config.train.device))
    with use_threads(resolved.config.train.threads):
        trainer, begun = setup.begin(resolved, Path(run) if run is not None else None)
        try:
            for event in trainer.train(begun):
                if isinstance(event, Finished):
                    return event.summary
        finally:
            begun.unlock()
    raise AssertionError("training ends with Finished")
