"""Reuse of the runs in a comparison's folder: finished runs are read, others refused."""

import json
from typing import Any

from charlm.backends.device import changes, versions
from charlm.common.errors import CheckpointError, ConfigError, UsageError
from charlm.common.files import read_regular, refuse_links
from charlm.comparison.plan import PlannedRun
from charlm.config import loading
from charlm.config.schema import Config, differing_keys
from charlm.runs import checkpoint
from charlm.runs.directory import RunDirectory, is_barely_begun
from charlm.runs.state import SavedState
from charlm.text.corpus import Corpus

WITHOUT_EFFECT = {
    *("data.path", "data.sha256", "data.order", "data.file_limit"),
    *("train.sample_every", "train.sample_length"),
}
"""Keys without effect on a result. (The text's fingerprint is compared.)"""


def summary(planned: PlannedRun) -> dict[str, Any]:
    """Return the summary of a finished run. Raises: CheckpointError if it is damaged."""
    try:
        values = _read_summary(planned)
        float(values["best"]["bits_per_character"])
        return {key: values[key] for key in SUMMARY_KEYS}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(planned, "summary.json", error) from None


def _read_summary(planned: PlannedRun) -> dict[str, Any]:
    """Read a run's summary; `best` is null if it was stopped before its first evaluation."""
    values: dict[str, Any] = json.loads(read_regular(planned.path / "summary.json"))
    return values


def is_finished(planned: PlannedRun) -> bool:
    """Return True if a run has ended otherwise than by a signal. Raises: CheckpointError if it is
    damaged."""
    if not (planned.path / "summary.json").is_file():
        return False
    try:
        return bool(_read_summary(planned)["stopped_by"] != "signal")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(planned, "summary.json", error) from None


SUMMARY_KEYS = (
    *("run", "parameters", "recurrent_parameters", "steps", "characters", "seconds"),
    *("characters_per_second", "peak_memory_bytes", "best", "device", "precision", "threads"),
    "stopped_by",
)


def evaluations(planned: PlannedRun) -> list[dict[str, Any]]:
    """Return the evaluations of a finished run, in order. Raises: CheckpointError if damaged."""
    try:
        lines = read_regular(planned.path / "metrics.jsonl").decode("utf-8").splitlines()
        rows = [row for row in map(json.loads, lines) if row["kind"] == "eval"]
        values = [{key: row[key] for key in EVALUATION_KEYS} for row in rows]
        if not values or values[-1]["step"] != summary(planned)["steps"]:
            raise ValueError("the last evaluation is missing")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(planned, "metrics.jsonl", error) from None
    return values


EVALUATION_KEYS = ("step", "characters", "seconds", "loss", "bits_per_character")


def _damaged(planned: PlannedRun, file: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{planned.path / file} is damaged: {error}",
        f"delete {planned.path}; that run is then trained again",
    )


def finished_state(planned: PlannedRun, corpus: Corpus) -> SavedState | None:
    """Return the state of the last checkpoint of a finished run, else None.

    Raises: UsageError for something else in its place, CheckpointError for a damaged run.
    """
    refuse_links(planned.path.parent, [planned.path.name])
    try:
        text = RunDirectory(planned.path).read_config()
    except FileNotFoundError:
        if planned.path.is_dir() and not is_barely_begun(planned.path):
            raise _refusal(planned, "it is not a run") from None
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(planned, "config.toml", error) from None
    try:
        config = loading.from_toml(text, str(planned.path / "config.toml"))
    except ConfigError as error:
        raise _damaged(planned, "config.toml", error) from None
    if changed := _changed(config, planned.config):
        raise _refusal(planned, f"it was made with other settings: {changed}")
    directory = RunDirectory(planned.path)
    if not directory.has_checkpoints():
        return None
    try:
        state = checkpoint.read(directory.find("latest")).state
        best = checkpoint.read(directory.find("best")).step
    except CheckpointError as error:
        raise CheckpointError(
            error.what, f"delete {planned.path}; that run is then trained again"
        ) from None
    if state.corpus != corpus.fingerprint:
        raise _refusal(planned, "it was trained on another text")
    if not is_finished(planned):
        return None
    done, progress = summary(planned), state.progress
    there = (state.step, progress["best"], progress["best"]["step"])
    if (done["steps"], done["best"], best) != there:
        raise _damaged(planned, "summary.json", ValueError("it does not match the checkpoint"))
    return state


def _refusal(planned: PlannedRun, why: str) -> UsageError:
    return UsageError(
        f"{planned.path} cannot be reused: {why}",
        "give another --out, or the settings that this comparison was begun with",
    )


def _changed(saved: Config, wanted: Config) -> str:
    """Describe the first difference in a key that affects the result; "" if there is none."""
    for dotted in differing_keys(saved, wanted):
        if dotted not in WITHOUT_EFFECT:
            section, _, key = dotted.partition(".")
            then, now = (getattr(getattr(c, section), key) for c in (saved, wanted))
            return f"{dotted} was {then}, now {now}"
    return ""


def differences(state: SavedState) -> list[str]:
    """List the versions that have changed since a finished run was trained."""
    return changes(state.versions, versions())
