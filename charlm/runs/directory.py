"""The run directory: configuration, metrics, summary, vocabulary, checkpoints."""

import contextlib
import json
import shutil
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor

from charlm.config.schema import Config, to_toml
from charlm.errors import CharlmError, CheckpointError, UsageError
from charlm.files import json_bytes, replace
from charlm.runs import checkpoint
from charlm.runs.manifest import MANIFEST
from charlm.text.vocabulary import Vocabulary

KEPT = 2
"""Checkpoints kept beside the best one."""


class RunDirectory:
    """One run on disk: configuration, metrics, summary, vocabulary, checkpoints."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._lock = FileLock(path / ".lock")

    @classmethod
    def create(cls, path: Path, config: Config, vocabulary: Vocabulary) -> "RunDirectory":
        """Make a new run. Raises: UsageError where `path` is taken or cannot be written."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise UsageError(
                    f"{path} exists and is not empty",
                    f"continue it (--resume --run {path}) or give another --run",
                )
            run = cls(path)
            run.checkpoints.mkdir()
            run.write_config(config)
            replace(path / "vocabulary.json", json_bytes(vocabulary.to_json()))
        except OSError as error:
            raise UsageError(
                f"cannot write the run {path}: {error.strerror}",
                "give a --run that you can write to",
            ) from None
        return run

    def lock(self) -> None:
        """Keep other processes from training the same run. Raises: UsageError if one does."""
        try:
            self._lock.acquire(timeout=0.3)  # `charlm runs` holds it for a moment
        except Timeout:
            raise UsageError(
                f"{self.path} is being trained by another process", "wait for it, or stop it"
            ) from None
        except OSError as error:
            raise UsageError(
                f"cannot write to the run {self.path}: {error.strerror}", "check its permissions"
            ) from None

    def unlock(self) -> None:
        self._lock.release()

    def write_config(self, config: Config) -> None:
        replace(self.path / "config.toml", to_toml(config).encode())

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        replace(self.path / "summary.json", json_bytes(summary))

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def forget_metrics_after(self, step: int) -> None:
        """Drop the rows of steps that a resumed run takes again, and a torn last line."""
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return
        kept = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
            try:
                if line.endswith("\n") and json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError, TypeError):
                continue
        replace(path, "".join(kept).encode())

    def save(
        self,
        step: int,
        *,
        weights: Mapping[str, Tensor],
        training: Mapping[str, Tensor],
        state: Mapping[str, Any],
        best: bool,
    ) -> Path:
        """Write the checkpoint of `step`, make it `latest` (and `best`), drop what is superseded.

        Raises: CharlmError where the disk is full or read-only; the checkpoints before it stay.
        """
        folder = self.checkpoints / f"step-{step:08d}"
        try:
            checkpoint.write(folder, weights, training, state)
            for pointer in ("latest", "best") if best else ("latest",):
                replace(self.checkpoints / pointer, f"{folder.name}\n".encode())
        except OSError as error:
            raise CharlmError(
                f"cannot write the checkpoint {folder}: {error.strerror}",
                f"make room, then continue: charlm train --resume --run {self.path}",
            ) from None
        self._prune()
        return folder

    def point_best(self, step: int) -> None:
        """Make the checkpoint of `step` the best: a kill may have come just before `save` did."""
        replace(self.checkpoints / "best", f"step-{step:08d}\n".encode())

    def _prune(self) -> None:
        """Keep the last checkpoints and the best; remove what a crash left half-written."""
        folders = sorted(self.checkpoints.glob("step-*"))
        kept = {folder.name for folder in folders[-KEPT:]} | {self.pointed("best")}
        for folder in folders:
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)
        for left in self.checkpoints.glob(f"{checkpoint.UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)

    def forget_checkpoints_after(self, step: int) -> None:
        """Drop the checkpoints of steps that a run resumed from an earlier one takes again."""
        for folder in self.checkpoints.glob("step-*"):
            if folder.name > f"step-{step:08d}":
                shutil.rmtree(folder, ignore_errors=True)

    def has_checkpoints(self) -> bool:
        """Tell whether a checkpoint was ever written."""
        return bool(self.pointed("latest")) or any(self.checkpoints.glob("step-*"))

    def pointed(self, pointer: str) -> str:
        """Return the checkpoint that `latest` or `best` names; "" if there is none."""
        try:
            return (self.checkpoints / pointer).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def find(self, which: str = "best") -> Path:
        """Find the folder of a checkpoint: "best" (else the latest), "latest", or a step's number.

        Raises: UsageError where there is no such checkpoint, or none yet; CheckpointError where the
            run's own pointer leads to none.
        """
        if which == "best" and not self.pointed("best"):
            which = "latest"
        name = f"step-{int(which):08d}" if which.isdecimal() else self.pointed(which)
        if not name or "/" in name or not (self.checkpoints / name).is_dir():
            there = sorted(folder.name for folder in self.checkpoints.glob("step-*"))
            what = f"{self.path} has no checkpoint {name or which!r}"
            if not there:
                raise UsageError(what, "train it: no checkpoint was written yet")
            kind = UsageError if which.isdecimal() else CheckpointError
            raise kind(what, f"it has {', '.join(there)}; name one: --checkpoint STEP")
        return self.checkpoints / name


def locate(
    path: Path | None, root: Path = Path("runs"), *, name: str = "", begun: bool = False
) -> tuple[RunDirectory, Path | None]:
    """Find the run at `path`, and the checkpoint if `path` is one; without `path`, the latest run,
    of those called `name` if that is given. begun: count runs without a checkpoint yet, too.

    Raises: UsageError where there is no run, or `path` is something else.
    """
    if path is None:
        wanted = "*/checkpoints" if begun else "*/checkpoints/latest"
        runs = [root / found.relative_to(root).parts[0] for found in root.glob(wanted)]
        if not runs:
            raise UsageError(f"there is no run in {root}/", "train one first: charlm train")
        if name:
            runs = [run for run in runs if run.name.rpartition("-")[0] == name]
        if not runs:
            raise UsageError(f"there is no run {root}/{name}-<n>", f"name one: --run {root}/...")
        return RunDirectory(max(runs, key=last_change)), None
    if not path.exists():
        raise UsageError(f"there is no run {path}", "name a run directory, such as runs/hello-1")
    path = path.absolute()
    if path.parent.name == "checkpoints" and (path / MANIFEST).exists():
        return RunDirectory(path.parent.parent), path
    if (path / "checkpoints").is_dir():
        return RunDirectory(path), None
    if (path / MANIFEST).exists():  # a checkpoint that was copied out of its run
        return RunDirectory(path.parent), path
    raise UsageError(f"{path} is not a run of charlm", "name a run directory or a checkpoint")


def claim_path(name: str) -> Path:
    """Make the folder `runs/<name>-<n>` with the first free n.

    Raises: UsageError where it cannot be made.
    """
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
            "go to a folder that you can write to, or name one (--run, --out)",
        ) from None
    raise AssertionError("count ends never")


def is_run(path: Path) -> bool:
    """Tell whether a path is a run directory or a checkpoint in one."""
    return (path / "checkpoints").is_dir() or (path / MANIFEST).exists()


def last_change(run: Path) -> float:
    """Return when a run was last saved, else when it was begun, in seconds since 1970."""
    for name in ("latest", "."):
        with contextlib.suppress(OSError):
            return (run / "checkpoints" / name).stat().st_mtime
    return 0.0
