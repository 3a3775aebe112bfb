"""Runs from their beginning: a draft made into a trainer, or a stopped run made into one again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from charlm.config.loading import Draft
from charlm.config import loading
from charlm.config.schema import Config, to_toml
from charlm.errors import CharlmError, UsageError
from charlm.runs import checkpoint, directory
from charlm.runs.checkpoint import Checkpoint
from charlm.runs.directory import RunDirectory
from charlm.text import corpus, sources
from charlm.text.corpus import Corpus
from charlm.training.trainer import Trainer

# What may change when a run is resumed. The rest would make the saved tensors meaningless.
RESUMABLE = {
    "data.path",
    *("train.steps", "train.seconds", "train.target_bits_per_character"),
    *("train.eval_every", "train.checkpoint_every", "train.log_every"),
    *("train.learning_rate", "train.final_learning_rate", "train.warmup_steps"),
    *("train.weight_decay", "train.clip_norm", "train.device", "train.threads", "train.engine"),
    *("sample.length", "sample.temperature", "sample.top_k", "sample.top_p"),
}


@dataclass(frozen=True)
class Plan:
    """A configuration resolved against its text."""

    name: str
    config: Config
    origins: dict[str, str]
    corpus: Corpus


def plan(draft: Draft, *, keep: bool = True) -> Plan:
    """Find and encode the text, and resolve the rules that depend on its length.

    keep: False writes nothing, not even to the cache.

    Raises: ConfigError, DataError.
    """
    draft = _with_absolute_paths(draft)
    text = corpus.survey(draft.resolve().config.data, keep=keep)
    resolved = draft.resolve(text.characters)
    encoded = corpus.prepare(resolved.config.data, text, keep=keep)
    return Plan(draft.name, resolved.config, resolved.origins, encoded)


def begin(planned: Plan, path: Path | None = None) -> tuple[Trainer, RunDirectory]:
    """A trainer at step 0 and its new run directory, locked. Raises: CharlmError, as `plan`."""
    trainer = Trainer(planned.config, planned.corpus)  # first, so that an error leaves no folder
    path = path or _next_path(planned.name)
    run = RunDirectory.create(path, planned.config, planned.corpus.vocabulary)
    run.lock()
    return trainer, run


@dataclass(frozen=True)
class Resumed:
    trainer: Trainer
    run: RunDirectory
    config: Config
    checkpoint: Checkpoint
    differences: list[str]
    """What is not as it was, so that the result may differ in its last bits."""


def resume(
    path: Path | None, changes: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> Resumed:
    """The trainer of a stopped run, exactly where its latest checkpoint (or `path`'s) left it.

    changes, flags: settings as for `settings.load`, of the keys in `RESUMABLE`.

    Raises: UsageError, ConfigError, DataError (the text has changed), CheckpointError.
    """
    run, folder = directory.locate(path)
    run.lock()
    try:
        saved = checkpoint.read(folder or run.find("latest"))
        config = _changed(saved, changes, flags)
        encoded = corpus.prepare(config.data, corpus.survey(config.data))
        trainer = Trainer(config, encoded)
        differences = trainer.resume(saved)
        run.forget_metrics_after(saved.step)
        run.forget_checkpoints_after(saved.step)
        if (best := trainer.progress.best) and best["step"] == saved.step:
            run.point_best(saved.step)
        if to_toml(config) != to_toml(saved.config):
            run.write_config(config)
    except CharlmError:
        run.unlock()
        raise
    return Resumed(trainer, run, config, saved, differences)


def _changed(saved: Checkpoint, changes: Sequence[str], flags: Mapping[str, Any] | None) -> Config:
    draft = _with_absolute_paths(loading.on_top_of(to_toml(saved.config), changes, flags))
    resolved = draft.resolve()
    changed = [key for key, origin in resolved.origins.items() if origin != loading.RUN]
    refused = sorted(set(changed) - RESUMABLE)
    if refused:
        raise UsageError(
            f"{', '.join(refused)} cannot change when a run is resumed",
            f"start a new run, or change only {', '.join(sorted(RESUMABLE))}",
        )
    return resolved.config


def _with_absolute_paths(draft: Draft) -> Draft:
    """The draft with every path made absolute, so that the run is found from anywhere."""
    path = draft.resolve().config.data.path
    absolute: Any = (
        sources.absolute(path) if isinstance(path, str) else [sources.absolute(p) for p in path]
    )
    return draft.with_value("data", "path", absolute)


def _next_path(name: str) -> Path:
    """Claim `runs/<name>-<n>` with the first free n."""
    root = Path("runs")
    try:
        root.mkdir(exist_ok=True)
        for number in count(1):
            path = root / f"{name}-{number}"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return path
    except OSError as error:
        raise UsageError(
            f"cannot make a run directory in {root.absolute()}: {error.strerror}",
            "go to a folder that you can write to, or give --run",
        ) from None
    raise AssertionError("count ends never")
