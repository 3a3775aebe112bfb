"""What runs there are in a folder. Read without torch, so that it takes a moment."""

import contextlib
import json
import math
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from charlm.errors import CheckpointError, UsageError
from charlm.runs.manifest import MODEL, STATE, TRAINING, read_manifest, verified

State = Literal["finished", "stopped", "damaged", "running"]


@dataclass(frozen=True)
class ListedRun:
    """A run as `charlm runs` shows it; None where it is not known.

    text: the names of its files. bits_per_character: the best on validation. changed: when it was
    last saved, in seconds since 1970. curve: its evaluations, as in metrics.jsonl.
    """

    run: str
    text: str | None
    cell: str | None
    parameters: int | None
    steps: int
    bits_per_character: float | None
    state: State
    changed: float
    curve: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """Return what `charlm runs --json` prints."""
        keys = ("run", "text", "cell", "parameters", "steps", "bits_per_character", "state")
        return {key: getattr(self, key) for key in keys}


def list_runs(folder: Path) -> list[ListedRun]:
    """List the runs in a folder, or the run that it is, newest first.

    Raises: UsageError where there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(
            f"there is no folder {folder}", "train a run first, or name another folder"
        )
    found = [path for path in (folder, *folder.iterdir()) if (path / "checkpoints").is_dir()]
    return sorted(map(_listed, found), key=lambda run: (-run.changed, run.run))


def _listed(path: Path) -> ListedRun:
    config = _config(path)
    name = _pointed(path)
    changed = (path / "checkpoints").stat().st_mtime
    with contextlib.suppress(OSError):
        changed = (path / "checkpoints" / "latest").stat().st_mtime
    step, best, parameters = 0, None, None
    damaged = config is None
    if name:
        folder = path / "checkpoints" / name
        try:
            manifest = read_manifest(folder)
            state = json.loads(verified(folder, manifest, STATE))
            verified(folder, manifest, TRAINING)
            parameters = _parameters(verified(folder, manifest, MODEL))
            step, best = int(state["step"]), state["progress"]["best"]
            best = float(best["bits_per_character"]) if best else None
        except (CheckpointError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            damaged = True
    config = config or {}
    return ListedRun(
        run=str(path),
        text=_text(config),
        cell=config.get("model", {}).get("cell"),
        parameters=parameters,
        steps=step,
        bits_per_character=best,
        state=_state(path, step, damaged=damaged),
        changed=changed,
        curve=_curve(path),
    )


def _state(path: Path, step: int, *, damaged: bool) -> State:
    if _is_locked(path):
        return "running"
    if damaged:
        return "damaged"
    try:
        summary = json.loads((path / "summary.json").read_bytes())
        ended = summary["stopped_by"] != "signal" and summary["steps"] == step
    except (OSError, ValueError, KeyError, TypeError):
        ended = False
    return "finished" if ended else "stopped"


def _is_locked(path: Path) -> bool:
    """Tell whether a process trains the run now."""
    if not (path / ".lock").exists():
        return False
    lock = FileLock(path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # of another user: not to be known
        return False
    lock.release()
    return False


def _config(path: Path) -> dict[str, Any] | None:
    try:
        found = tomllib.loads((path / "config.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if all(isinstance(table, dict) for table in found.values()) else None


def _text(config: dict[str, Any]) -> str | None:
    """Name the files of a run's text, without their folders."""
    path = config.get("data", {}).get("path")
    paths = [path] if isinstance(path, str) else path
    if not isinstance(paths, list) or not all(isinstance(one, str) for one in paths):
        return None
    return ", ".join(re.split(r"[/\\]", one.rstrip("/\\"))[-1] for one in paths)


def _pointed(path: Path) -> str:
    """Return the checkpoint that `latest` names; "" for none."""
    try:
        return (path / "checkpoints" / "latest").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _parameters(content: bytes) -> int:
    """Count the numbers in a safetensors file by its header."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    return sum(math.prod(e["shape"]) for name, e in header.items() if name != "__metadata__")


def _curve(path: Path) -> list[dict[str, Any]]:
    """Read the evaluations of a run; a torn line is left out."""
    rows = []
    with contextlib.suppress(OSError):
        for line in (
            (path / "metrics.jsonl").read_text(encoding="utf-8", errors="replace").split("\n")
        ):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                row = json.loads(line)
                if row["kind"] == "eval":
                    rows.append({key: row[key] for key in CURVE_KEYS})
    return rows


CURVE_KEYS = ("step", "characters", "seconds", "bits_per_character")
