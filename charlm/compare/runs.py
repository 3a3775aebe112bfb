"""The runs of a comparison, one after another: begun, resumed where they stopped, reused when done.

They are ordinary runs by the ordinary trainer. Yields events, prints nothing.
"""

import gc
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charlm.backends.device import reset_peak_memory, resolve_device, versions
from charlm.compare.plan import Entry, Plan
from charlm.config import loading
from charlm.config.schema import Config
from charlm.errors import CheckpointError, ConfigError, DivergedError, UsageError
from charlm.runs import checkpoint
from charlm.runs.directory import RunDirectory
from charlm.text.corpus import Corpus
from charlm.training import setup
from charlm.training.events import Event, Finished, Trained
from charlm.training.trainer import Trainer


@dataclass(frozen=True)
class Leg:
    """One run of the comparison. Units: seconds_a_step as measured beforehand."""

    entry: Entry
    config: Config
    path: Path
    seconds_a_step: float
    note: str = ""

    @property
    def name(self) -> str:
        note = f", {self.note}" if self.note else ""
        return f"{self.entry.label}, seed {self.config.train.seed}{note}"

    @property
    def steps(self) -> int:
        return self.config.train.steps

    @property
    def seconds(self) -> float:
        """Expected for the whole run."""
        seconds, budget = self.seconds_a_step * self.steps, self.config.train.seconds
        return min(seconds, budget) if budget else seconds


@dataclass(frozen=True)
class Begun:
    """A run of the comparison is about to begin, or was found finished (`reused`).

    number: from 1. step: where it goes on. differences: what is not as when it was trained.
    """

    leg: Leg
    number: int
    total: int
    step: int
    reused: bool
    differences: list[str]


@dataclass(frozen=True)
class Advanced:
    """An event of the run under way. Units: seconds_left of the whole plan, as far as measured."""

    leg: Leg
    event: Event
    seconds_left: float


@dataclass(frozen=True)
class Diverged:
    """The run under way has ended without a result."""

    leg: Leg
    error: DivergedError


RaceEvent = Begun | Advanced | Diverged


def legs(plan: Plan, folder: Path, seconds_a_step: Mapping[str, float]) -> list[Leg]:
    """Seed by seed, every cell once; each seed begins with another cell, so that neither a drift of
    the machine nor the order favours one.

    seconds_a_step: by label.
    """
    result = []
    for at, seed in enumerate(plan.seeds):
        turn = at % len(plan.entries)
        for entry in (*plan.entries[turn:], *plan.entries[:turn]):
            path = folder / f"{entry.folder}-seed{seed}"
            result.append(Leg(entry, entry.seeded(seed), path, seconds_a_step[entry.label]))
    return result


class Race:
    """Runs legs. `stop()` ends the one under way after its step, with a checkpoint."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.stopped = False
        self._trainer: Trainer | None = None
        self._drift = 1.0
        """How much slower the runs are than their steps were beforehand."""

    def stop(self) -> None:
        """Safe in a signal handler."""
        self.stopped = True
        if self._trainer is not None:
            self._trainer.stop()

    def run(self, legs: Sequence[Leg], *, tolerant: bool = False) -> Iterator[RaceEvent]:
        """Run what is not finished. What has been trained with other settings or on another text is
        refused before anything starts.

        tolerant: goes on after a run that diverges, with a `Diverged` event.

        Raises: UsageError, DataError, CheckpointError; DivergedError, the other runs being kept.
        """
        finished = [_finished(leg, self.corpus) for leg in legs]
        for at, leg in enumerate(legs):
            if self.stopped:
                return
            if (state := finished[at]) is not None:
                yield Begun(leg, at + 1, len(legs), leg.steps, True, _differences(state))
                continue
            after = sum(
                other.seconds
                for other, done in zip(legs[at + 1 :], finished[at + 1 :], strict=True)
                if done is None
            )
            try:
                yield from self._run(leg, at + 1, len(legs), after)
            except DivergedError as error:
                if not tolerant:
                    raise DivergedError(f"{leg.name}: {error.what}", error.advice) from None
                yield Diverged(leg, error)

    def _run(self, leg: Leg, number: int, total: int, after: float) -> Iterator[RaceEvent]:
        known = reset_peak_memory(resolve_device(leg.config.train.device))
        trainer, directory, differences = _trainer(leg, self.corpus)
        self._trainer = trainer
        if self.stopped:  # asked while the trainer was being made
            trainer.stop()
        left = leg.seconds
        try:
            yield Begun(leg, number, total, trainer.progress.step, False, differences)
            for event in trainer.train(directory):
                if isinstance(event, Trained):
                    self._drift = event.seconds / event.step / leg.seconds_a_step
                    left = leg.seconds * (1 - event.step / leg.steps)
                elif isinstance(event, Finished):
                    left = 0.0
                    if not known:  # the peak of the process says nothing of this run
                        directory.write_summary({**event.summary, "peak_memory_bytes": None})
                yield Advanced(leg, event, (left + after) * self._drift)
        finally:
            directory.unlock()
            self._trainer = None
            del trainer
            gc.collect()  # so that the next run's memory is its own


def summary(leg: Leg) -> dict[str, Any]:
    """What `train --json` printed for a finished leg. Raises: CheckpointError: it is damaged."""
    try:
        found: dict[str, Any] = json.loads((leg.path / "summary.json").read_bytes())
        float(found["best"]["bits_per_character"])
        return {key: found[key] for key in SUMMARY_KEYS}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(leg, "summary.json", error) from None


SUMMARY_KEYS = (
    *("run", "parameters", "recurrent_parameters", "steps", "characters", "seconds"),
    *("characters_per_second", "peak_memory_bytes", "best", "device", "precision", "threads"),
    "stopped_by",
)


def evaluations(leg: Leg) -> list[dict[str, Any]]:
    """The evaluations of a finished leg, in order. Raises: CheckpointError: they are damaged."""
    try:
        lines = (leg.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        found = [row for row in map(json.loads, lines) if row["kind"] == "eval"]
        kept = [{key: row[key] for key in EVALUATION_KEYS} for row in found]
        if not kept or kept[-1]["step"] != summary(leg)["steps"]:
            raise ValueError("the last evaluation is missing")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(leg, "metrics.jsonl", error) from None
    return kept


EVALUATION_KEYS = ("step", "characters", "seconds", "loss", "bits_per_character")


def _damaged(leg: Leg, file: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{leg.path / file} is damaged: {error}", f"delete {leg.path}; that run is made anew"
    )


def _finished(leg: Leg, corpus: Corpus) -> dict[str, Any] | None:
    """The last checkpoint's state of a leg that has been run to its end, else None; a run of
    something else in its place is refused."""
    try:
        text = (leg.path / "config.toml").read_text(encoding="utf-8")
    except FileNotFoundError:
        if leg.path.is_dir() and not _is_barely_begun(leg.path):
            raise _refusal(leg, "it is not a run") from None
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(leg, "config.toml", error) from None
    try:
        found = loading.from_toml(text, str(leg.path / "config.toml"))
    except ConfigError as error:
        raise _damaged(leg, "config.toml", error) from None
    if changed := _changed(found, leg.config):
        raise _refusal(leg, f"it was made with other settings: {changed}")
    directory = RunDirectory(leg.path)
    if not directory.pointed("latest"):
        return None
    try:
        state = checkpoint.read(directory.find("latest")).state
        checkpoint.read(directory.find("best"))
    except CheckpointError as error:
        raise CheckpointError(error.what, f"delete {leg.path}; that run is made anew") from None
    if state.get("corpus") != corpus.fingerprint:
        raise _refusal(leg, "it was trained on another text")
    if not (leg.path / "summary.json").is_file() or summary(leg)["stopped_by"] == "signal":
        return None
    return state


def _is_barely_begun(path: Path) -> bool:
    """Whether a folder without config.toml is what a run that was killed in its first moment, or
    while it was removed, has left: nothing that was trained."""
    names = {entry.name for entry in path.iterdir()}
    return not any(path.glob("checkpoints/step-*")) and names <= FIRST_FILES


FIRST_FILES = {
    *(".lock", "checkpoints", "metrics.jsonl", "vocabulary.json"),
    *(".config.toml.writing", ".vocabulary.json.writing"),
}


def _refusal(leg: Leg, why: str) -> UsageError:
    return UsageError(
        f"{leg.path} cannot be reused: {why}",
        "give another --out, or the settings that this comparison was begun with",
    )


def _changed(found: Config, wanted: Config) -> str:
    """The first key that differs, but for where the text lies: its fingerprint is compared."""
    for section, values in wanted.model_dump().items():
        there = getattr(found, section).model_dump()
        for key, value in values.items():
            where = (section, key) in {("data", "path"), ("data", "sha256")}
            if there[key] != value and not where:
                return f"{section}.{key} was {there[key]}, now {value}"
    return ""


def _differences(state: Mapping[str, Any]) -> list[str]:
    """What was not as it is now when a finished leg was trained."""
    now = versions()
    then = state["versions"]
    return [f"{key} {then.get(key)} -> {now[key]}" for key in now if then.get(key) != now[key]]


def _trainer(leg: Leg, corpus: Corpus) -> tuple[Trainer, RunDirectory, list[str]]:
    """The leg's trainer, at its beginning or where it stopped, and its run, locked."""
    if RunDirectory(leg.path).pointed("latest"):
        resumed = setup.resume(leg.path, flags={"data.path": leg.config.data.path})
        return resumed.trainer, resumed.run, resumed.differences
    if leg.path.is_dir():  # stopped before its first checkpoint: `_finished` has looked at it
        shutil.rmtree(leg.path)
    trainer, run = setup.begin(setup.Plan(leg.name, leg.config, {}, corpus), leg.path)
    return trainer, run, []
