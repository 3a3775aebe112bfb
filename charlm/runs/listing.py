"""List of the runs in a folder, read without torch, which would take time to import."""

import contextlib
import json
import math
import re
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from charlm.common.errors import CheckpointError, UsageError
from charlm.common.files import read_regular, size_of_tree
from charlm.runs.manifest import MODEL, MOST_OF_CONFIG, STATE, TRAINING, read_manifest, verified
from charlm.runs.metrics import UNEXPECTED, read_metrics

State = Literal["finished", "stopped", "damaged", "running"]


@dataclass(frozen=True)
class ListedRun:
    """A run as shown by `charlm runs`; None for unknown values.

    text: the names of its files. bits_per_character: the best on validation. changed: time of the
    last save, in seconds since 1970. curve: its evaluations, as in metrics.jsonl. bytes: on disk.
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
    bytes: int = 0
    has_checkpoint: bool = True

    def as_json(self) -> dict[str, Any]:
        """Return the run's entry in the output of `charlm runs --json`."""
        keys = ("run", "text", "cell", "parameters", "steps", "bits_per_character", "state")
        return {key: getattr(self, key) for key in keys}


def list_runs(folder: Path) -> list[ListedRun]:
    """List the runs in a folder, newest first; the folder may be a run itself.

    Raises: UsageError if there is no such folder.
    """
    refuse_no_folder(folder)
    runs = [path for path in (folder, *folder.iterdir()) if _is_run(path)]
    return sorted(map(_listed, runs), key=lambda run: (-run.changed, run.run))


def refuse_no_folder(folder: Path) -> None:
    """Check that the folder of the runs exists. Raises: UsageError."""
    if folder.is_dir():
        return
    is_file = folder.exists()
    what = f"{folder} is a file, not a folder" if is_file else f"there is no folder {folder}"
    raise UsageError(what, "name the folder that the runs are in, or train one first")


def _is_run(path: Path) -> bool:
    try:
        return (path / "checkpoints").is_dir()
    except OSError:  # an unreadable folder does not hide the others
        return False


def _listed(path: Path) -> ListedRun:
    config = _config(path)
    name = _pointed(path)
    changed = 0.0
    with contextlib.suppress(OSError):
        changed = (path / "checkpoints").stat().st_mtime
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
            step, best_row = _count(state["step"]), state["progress"]["best"]
            best = _finite(best_row["bits_per_character"]) if best_row else None
        except (CheckpointError, *UNEXPECTED):
            damaged = True
    config = config or {}
    return ListedRun(
        run=str(path),
        text=_text(config),
        cell=cell if isinstance(cell := config.get("model", {}).get("cell"), str) else None,
        parameters=parameters,
        steps=step,
        bits_per_character=best,
        state=_state(path, step, damaged=damaged),
        changed=changed,
        curve=_curve(path),
        bytes=size_of_tree(path),
        has_checkpoint=any(path.glob("checkpoints/step-*")),
    )


def _state(path: Path, step: int, *, damaged: bool) -> State:
    if _is_locked(path):
        return "running"
    if damaged:
        return "damaged"
    try:
        summary = json.loads(read_regular(path / "summary.json"))
        ended = summary["stopped_by"] != "signal" and summary["steps"] == step
    except (OSError, *UNEXPECTED):
        ended = False
    return "finished" if ended else "stopped"


def _is_locked(path: Path) -> bool:
    """Return True if a process is training the run."""
    lock = FileLock(path / ".lock")
    try:
        if not stat.S_ISREG((path / ".lock").lstat().st_mode):
            return False
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # there is none, or it is another user's
        return False
    lock.release()
    return False


def _config(path: Path) -> dict[str, Any] | None:
    try:
        tables = tomllib.loads(read_regular(path / "config.toml", MOST_OF_CONFIG).decode("utf-8"))
    except (OSError, *UNEXPECTED):
        return None
    return tables if all(isinstance(table, dict) for table in tables.values()) else None


def _text(config: dict[str, Any]) -> str | None:
    """Name the files of a run's text, without their folders."""
    path = config.get("data", {}).get("path")
    paths = [path] if isinstance(path, str) else path
    if not isinstance(paths, list) or not all(isinstance(one, str) for one in paths):
        return None
    return ", ".join(re.split(r"[/\\]", one.rstrip("/\\"))[-1] for one in paths)


def _pointed(path: Path) -> str:
    """Return the name of the checkpoint in `latest`; "" if there is none."""
    try:
        name = read_regular(path / "checkpoints" / "latest", 100).decode("utf-8").strip()
        return name if name and "/" not in name else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _parameters(content: bytes) -> int:
    """Count the numbers in a safetensors file by its header."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
    return _count(sum(math.prod(map(_count, shape)) for shape in shapes))


def _count(value: Any) -> int:
    """Return a count. Raises: ValueError for anything else."""
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError("not a count")
    return value


def _finite(value: Any) -> Any:
    """Return a number. Raises: ValueError for anything else."""
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError("not a number")
    return value


def _curve(path: Path) -> list[dict[str, Any]]:
    """Read the evaluations of a run; an incomplete line is skipped."""
    rows = []
    for row in read_metrics(path):
        with contextlib.suppress(*UNEXPECTED):
            if row["kind"] == "eval":
                rows.append({key: _finite(row[key]) for key in CURVE_KEYS})
    return rows


CURVE_KEYS = ("step", "characters", "seconds", "bits_per_character")
