"""Search for runs: a named one, the latest, a free name for a new one."""

import contextlib
import os
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from charlm.common.errors import UsageError
from charlm.runs.directory import RunDirectory, is_barely_begun
from charlm.runs.manifest import MANIFEST


def locate(
    path: Path | None, root: Path = Path("runs"), *, name: str = "", begun: bool = False
) -> tuple[RunDirectory, Path | None]:
    """Find the run at `path`, and the checkpoint if `path` is one; without `path`, the latest run,
    of those called `name` if that is given. begun: True includes runs without a checkpoint.

    Raises: UsageError if there is no run, or `path` is something else.
    """
    if path is None:
        runs = [run for run in root.glob("*") if _counts(run, name, begun=begun)]
        if not runs and not name:
            raise UsageError(f"there is no run in {root}/", "train one first: charlm train")
        if not runs:
            raise UsageError(f"there is no run {root}/{name}-<n>", f"name one: --run {root}/...")
        return RunDirectory(max(runs, key=last_change)), None
    if not path.exists():
        raise UsageError(f"there is no run {path}", "name a run directory, such as runs/hello-1")
    as_written, path = path, path.absolute()
    if path.parent.name == "checkpoints" and (path / MANIFEST).exists():
        return RunDirectory(path.parent.parent), path
    if (path / "checkpoints").is_dir():
        return RunDirectory(as_written if as_written.name not in ("", "..") else path), None
    if (path / MANIFEST).exists():  # a checkpoint copied out of its run
        return RunDirectory(path.parent), path
    raise UsageError(f"{path} is not a run of charlm", "name a run directory or a checkpoint")


def find_checkpoint(path: Path | None, which: str = "best") -> Path:
    """Find the folder of a run's checkpoint; of the latest run, if `path` is None.

    path: a run, or a checkpoint, for which `which` is ignored. which: as for `RunDirectory.find`.

    Raises: UsageError (no such run or checkpoint), CheckpointError (none is intact).
    """
    run, folder = locate(path)
    return (folder or run.find(which)).absolute()


def find_partners(own: Path, others: Sequence[str | os.PathLike[str]]) -> dict[str, Path]:
    """Find the best checkpoints of the other runs in a mixture; "ngram" is not a run.

    own: the folder of the first checkpoint.

    Raises: UsageError (no such run, or one that is named twice), CheckpointError.
    """
    folders = {own.absolute()}
    partners: dict[str, Path] = {}
    for other in map(str, others):
        if other == "ngram":
            continue
        folder = find_checkpoint(Path(other)).absolute()
        if folder in folders:
            raise UsageError(f"{other} is named twice", "name different runs")
        folders.add(folder)
        partners[other] = folder
    if list(others).count("ngram") > 1:
        raise UsageError("ngram is named twice", "name it once")
    return partners


def home_of(checkpoint: Path) -> Path:
    """Return the run of a checkpoint; the checkpoint itself if it was copied out of its run."""
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint


def claim_path(name: str) -> Path:
    """Create the folder `runs/<name>-<n>` with the first free n.

    Raises: UsageError if it cannot be created.
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
    raise AssertionError("count() is endless")


def _counts(path: Path, name: str, *, begun: bool) -> bool:
    """Return True if a path is a run that `locate` looks for."""
    if not path.is_dir() or (name and path.name.rpartition("-")[0] != name):
        return False
    if any(path.glob("checkpoints/step-*")):
        return True
    return begun and (is_run(path) or (bool(name) and is_barely_begun(path)))


def is_run(path: Path) -> bool:
    """Return True if a path is a run directory or a checkpoint."""
    return (path / "checkpoints").is_dir() or (path / MANIFEST).exists()


def last_change(run: Path) -> float:
    """Return the time when a run was last saved, else begun, in seconds since 1970."""
    for name in ("checkpoints/latest", "checkpoints", "."):
        with contextlib.suppress(OSError):
            return (run / name).stat().st_mtime
    return 0.0
