"""Remove runs and comparisons: only what charlm has written, never through a link."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from charlm.errors import CharlmError, UsageError
from charlm.files import refuse_links, size_of_tree
from charlm.outputs import A_COMPARISON, A_RUN, COMPARISON_FOLDERS, own_names
from charlm.runs.listing import refuse_no_folder

REMOVING = ".removing-"
"""How the names of folders begin that are being removed."""


@dataclass(frozen=True)
class Removed:
    """A run or comparison that was removed. bytes: what it took on the disk."""

    run: str
    bytes: int


def remove(paths: Sequence[Path]) -> list[Removed]:
    """Remove runs and comparisons, all of them or, where one is refused, none.

    Raises: UsageError for a path that is neither, is a link, holds the working directory or is
        being trained; CharlmError where the system refuses.
    """
    with contextlib.ExitStack() as locks:
        for path in paths:
            for run in _runs_of(path):
                locks.enter_context(_locked(run))
        return [_removed(path) for path in dict.fromkeys(paths)]


def prune(folder: Path) -> list[Removed]:
    """Remove the runs in a folder that never came to a checkpoint, and what a removal that was
    killed has left. A run that is being trained stays.

    Raises: UsageError where there is no such folder; CharlmError where the system refuses.
    """
    refuse_no_folder(folder)
    removed = []
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_dir():
            continue
        if path.name.startswith(REMOVING):
            shutil.rmtree(path, ignore_errors=True)
        elif _never_saved(path):
            with contextlib.suppress(_RunningError), _locked(path):
                removed.append(_removed(path))
    return removed


class _RunningError(UsageError):
    """A run is being trained."""


def _never_saved(path: Path) -> bool:
    """Return True for a run without a checkpoint."""
    return _is_run(path) and not any(path.glob("checkpoints/step-*"))


def _is_run(path: Path) -> bool:
    kind, _ = own_names(_names(path))
    return kind == A_RUN


def _names(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


def _runs_of(path: Path) -> Iterator[Path]:
    """Yield the run at a path, or all runs of the comparison there. Raises: UsageError."""
    if path.is_symlink():
        raise UsageError(f"{path} is a link", f"remove the link itself, or name {path.resolve()}")
    if not path.is_dir():
        raise UsageError(f"there is no run {path}", "charlm runs lists them")
    if Path.cwd().resolve().is_relative_to(path.resolve()):
        raise UsageError(f"{path} holds the working directory", "go elsewhere first")
    names = _names(path)
    kind, own = own_names(names)
    if kind == A_RUN:
        yield path
    elif kind == A_COMPARISON and (others := names - own):
        raise UsageError(
            f"{path} holds more than a comparison: {', '.join(sorted(others)[:3])}",
            "move that elsewhere first",
        )
    elif kind == A_COMPARISON:
        refuse_links(path, COMPARISON_FOLDERS)
        yield from filter(_is_run, (run.parent for run in path.glob("*/*/checkpoints")))
    else:
        raise UsageError(f"{path} is not a run or comparison of charlm", "charlm runs lists them")


@contextlib.contextmanager
def _locked(run: Path) -> Iterator[BaseFileLock]:
    """Keep a run from being trained meanwhile. Raises: UsageError where it is."""
    lock = FileLock(run / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _RunningError(f"{run} is being trained", "stop it first, or wait") from None
    except OSError as error:
        raise _cannot_remove(run, error) from None
    try:
        yield lock
    finally:
        with contextlib.suppress(OSError):  # its folder may be gone
            lock.release()


def _removed(path: Path) -> Removed:
    """Give a folder another name, under which it is no run, and delete it."""
    size = size_of_tree(path)
    try:
        aside = Path(tempfile.mkdtemp(prefix=REMOVING, dir=path.absolute().parent))
        path.rename(aside / path.name)
        shutil.rmtree(aside)
    except OSError as error:
        raise _cannot_remove(path, error) from None
    return Removed(str(path), size)


def _cannot_remove(path: Path, error: OSError) -> CharlmError:
    return CharlmError(
        f"cannot remove {path}: {error.strerror}",
        f"check its permissions: {os.fspath(path.parent)}",
    )
