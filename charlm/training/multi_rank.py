"""Beginning and resuming a run with several processes: the leader first, then the others.

The leader creates the run's folder; to resume, all of them read it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from charlm.config import loading
from charlm.config.layers import ConfigLayers
from charlm.config.schema import SECTIONS, Config
from charlm.distributed.launch_state import refuse_differences, remember_run
from charlm.distributed.ranks import Ranks
from charlm.errors import UsageError
from charlm.runs import checkpoint, named
from charlm.runs.directory import RunDirectory
from charlm.text.corpus import Corpus
from charlm.training import setup
from charlm.training.request import changed, remember_names
from charlm.training.setup import ResolvedRun, Resumed
from charlm.training.trainer import Trainer
from charlm.version import __version__

Prepare = Callable[[Config], object]


def begin(
    layers: ConfigLayers, path: Path | None, prepare: Prepare, ranks: Ranks
) -> tuple[ResolvedRun, Trainer, RunDirectory]:
    """Return a resolved run, its trainer at step 0, and its new directory, locked by the leader.

    Raises: as `setup.resolve_run` and `setup.begin`; UsageError if the ranks differ.
    """
    resolved = ranks.in_turn(lambda: setup.resolve_run(layers, processes=ranks.size))
    refuse_differences(ranks, _facts(resolved.config, resolved.corpus))
    prepare(resolved.config)
    trainer = ranks.in_turn(lambda: setup.new_trainer(resolved.config, resolved.corpus, ranks))
    _refuse_other_environments(trainer, ranks)
    begun = setup.create_directory(resolved, path) if ranks.leads else None  # after all checks
    return resolved, trainer, _directory(begun, ranks)


def _directory(run: RunDirectory | None, ranks: Ranks) -> RunDirectory:
    """Return the leader's directory on all ranks."""
    path = ranks.from_first(str(run.path.absolute()) if run else "")
    if run is None:
        return RunDirectory(Path(path))
    remember_run(ranks, str(run.path))
    return run


def resume(
    path: Path | None,
    changes: Sequence[str],
    flags: Mapping[str, Any],
    *,
    name: str,
    prepare: Prepare,
    begins: ConfigLayers | None,
    ranks: Ranks,
) -> Resumed:
    """Return the trainer of a stopped run. Arguments and errors: as for `setup.resume`.

    Raises: UsageError if the ranks differ, or one cannot read the run.
    """
    resumed, folder = None, ""
    if ranks.leads:
        options: Any = {"name": name, "prepare": prepare, "begins": begins, "ranks": ranks}
        resumed = setup.resume(path, changes, flags, **options)
        folder = str(resumed.folder.absolute()) if resumed.folder else ""
    folder = ranks.from_first(folder)
    run = _directory(resumed.run if resumed else None, ranks)
    if resumed is None:
        remember_names(begins)  # the leader has done this, perhaps on another machine
        resumed = _follow(run, folder, changes, flags, prepare, ranks)
    refuse_differences(ranks, _facts(resumed.config, resumed.trainer.corpus))
    _refuse_other_environments(resumed.trainer, ranks)
    return resumed


def _follow(
    run: RunDirectory,
    folder: str,
    changes: Sequence[str],
    flags: Mapping[str, Any],
    prepare: Prepare,
    ranks: Ranks,
) -> Resumed:
    """Resume the leader's run. folder: of its checkpoint, "" if the run begins."""
    if not run.path.is_dir():
        raise UsageError(
            f"rank {ranks.rank} does not see the run {run.path} of rank 0",
            "keep runs where all machines find them, to resume them on several",
        )
    if not folder:
        own = loading.from_toml(run.read_config(), str(run.path / "config.toml"))
        config = changed(own, changes, flags)
        prepare(config)
        encoded = setup.text_to_begin_with(config)
        return Resumed(setup.new_trainer(config, encoded, ranks), run, config, 0, [])
    saved = checkpoint.read(Path(folder))
    config = changed(saved.config, changes, flags)
    prepare(config)
    named.require_teachers(config)
    encoded = named.open_text(config.data, saved.state.corpus)
    trainer = Trainer(config, encoded, ranks=ranks)
    trainer.resume(saved)
    return Resumed(trainer, run, config, saved.step, [])


def _facts(config: Config, encoded: Corpus) -> dict[str, Any]:
    """Return the facts that must be equal on all ranks."""
    keys = {
        f"{section}.{key}": value
        for section in SECTIONS
        for key, value in getattr(config, section).model_dump().items()
    }
    own = {"charlm": __version__, "torch": torch.__version__, "text": encoded.fingerprint}
    return {**own, **keys}


def _refuse_other_environments(trainer: Trainer, ranks: Ranks) -> None:
    environment = trainer.environment()
    refuse_differences(ranks, {key: environment[key] for key in ("precision", "backend")})
