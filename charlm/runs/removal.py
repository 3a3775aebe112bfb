"""Removal of runs and comparisons: only charlm's own files, never through a link."""

import contextlib
import os
import shutil
import stat
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from charlm.common.errors import CharlmError, UsageError
from charlm.common.files import read_regular, refuse_links, size_of_tree
from charlm.common.outputs import (
    A_COMPARISON,
    A_RUN,
    BARELY_BEGUN,
    COMPARISON,
    COMPARISON_FOLDERS,
    MARKER,
    RANDOM_TEXT,
    SERIES,
    SERIES_FOLDERS,
    own_names,
)
from charlm.runs.manifest import MANIFEST, MOST_OF_CONFIG, UNFINISHED

REMOVING = ".charlm-removing-"
"""Prefix of the names of folders that are being removed."""


@dataclass(frozen=True)
class Removed:
    """A run or comparison that was removed. bytes: its size on disk."""

    run: str
    bytes: int


def remove(paths: Sequence[Path]) -> list[Removed]:
    """Remove runs and comparisons: all of them or, if one is refused, none.

    Raises: UsageError for a path that is neither, is a link, holds the working directory or is
        being trained; CharlmError if the system refuses.
    """
    chosen = _outermost(paths)
    with contextlib.ExitStack() as locks:
        for path in chosen:
            for locked in _locked_folders(path):
                locks.enter_context(_locked(locked))
        return [_removed(path) for path in chosen]


def prune(folder: Path) -> list[Removed]:
    """Remove the runs in a folder that have no checkpoint, and the remains of killed removals. A
    run that is being trained stays.

    Raises: CharlmError if the system refuses.
    """
    removed = []
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_dir():
            continue
        if path.name.startswith(REMOVING):
            removed.append(_swept(path))
        elif _never_saved(path):
            with contextlib.suppress(_RunningError), _locked(path):
                removed.append(_removed(path))
    return removed


class _RunningError(UsageError):
    """A run is being trained."""


def _outermost(paths: Sequence[Path]) -> list[Path]:
    """Return one path per folder, and none inside another. Raises: UsageError for a link."""
    for path in paths:
        if path.is_symlink():
            raise UsageError(
                f"{path} is a link", f"remove the link itself, or name {path.resolve()}"
            )
    places = {path.resolve(): path for path in reversed(paths)}
    inner = [place for place in places if not places.keys().isdisjoint(place.parents)]
    return [path for place, path in reversed(places.items()) if place not in inner]


def _never_saved(path: Path) -> bool:
    """Return True for a run without a checkpoint that holds only charlm's own files."""
    if not (_is_run(path) and _names(path) <= BARELY_BEGUN):
        return False
    checkpoints = path / "checkpoints"
    return not checkpoints.is_symlink() and (
        not checkpoints.exists() or all(name.startswith(UNFINISHED) for name in _names(checkpoints))
    )


def _is_run(path: Path) -> bool:
    """Return True for a run of charlm, recognised by its checkpoints or else by its configuration:
    other programs use the same names of folders and files."""
    try:
        if own_names(_names(path))[0] != A_RUN:
            return False
        return any(path.glob(f"checkpoints/step-*/{MANIFEST}")) or _is_own_config(path)
    except OSError:  # an unreadable folder does not hide the others
        return False


def _is_own_config(path: Path) -> bool:
    """Return True if config.toml is that of a run, or missing because the run was killed early."""
    try:
        content = read_regular(path / "config.toml", MOST_OF_CONFIG)
        return {"data", "model", "train"} <= tomllib.loads(content.decode("utf-8")).keys()
    except FileNotFoundError:
        metrics = path / "metrics.jsonl"
        return _names(path) <= BARELY_BEGUN and metrics.is_file() and not metrics.stat().st_size
    except (OSError, ValueError):
        return False


def _names(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


def _locked_folders(path: Path) -> Iterator[Path]:
    """Yield the folders that are locked while a run or comparison is written: the run at a path, or
    the comparison there and its runs. Raises: UsageError."""
    if not path.is_dir():
        raise UsageError(f"there is no run {path}", "charlm runs lists them")
    if Path.cwd().resolve().is_relative_to(path.resolve()):
        raise UsageError(f"{path} holds the working directory", "go elsewhere first")
    try:
        names = _names(path)
    except OSError as error:
        raise _cannot_remove(path, error) from None
    if _is_run(path):
        yield path
    elif own_names(names)[0] == A_COMPARISON:
        yield from _folders_of_comparison(path)
    elif MARKER in names and (parts := _comparisons_in(path, names)):
        others = names - SERIES - {part.name for part in parts}
        if others := {name for name in others if not _is_drawn(path / name)}:
            raise UsageError(
                f"{path} holds more than comparisons: {', '.join(sorted(others)[:3])}",
                "move that elsewhere first",
            )
        refuse_links(path, SERIES_FOLDERS)
        yield path
        for part in parts:
            yield from _folders_of_comparison(part)
    else:
        raise UsageError(f"{path} is not a run or comparison of charlm", "charlm runs lists them")


def _folders_of_comparison(path: Path) -> Iterator[Path]:
    """Yield the folders of a comparison that are locked. Raises: UsageError."""
    if others := _names(path) - COMPARISON:
        raise UsageError(
            f"{path} holds more than a comparison: {', '.join(sorted(others)[:3])}",
            "move that elsewhere first",
        )
    refuse_links(path, COMPARISON_FOLDERS)
    yield path
    yield from filter(_is_run, (run.parent for run in path.glob("*/*/checkpoints")))


def _comparisons_in(path: Path, names: set[str]) -> list[Path]:
    """List the comparisons of a study or of several texts, which are in one folder."""
    folders = [path / name for name in sorted(names - SERIES)]
    return [
        folder
        for folder in folders
        if folder.is_dir()
        and not folder.is_symlink()
        and (own_names(_names(folder))[0] == A_COMPARISON or _has_no_run(folder))
    ]


def _has_no_run(path: Path) -> bool:
    """Return True for a comparison of a series that was stopped before it was its turn."""
    runs = path / "runs"
    is_own = _names(path) <= COMPARISON and runs.is_dir() and not runs.is_symlink()
    return is_own and not _names(runs)


def _is_drawn(path: Path) -> bool:
    """Return True for a random text that a study has drawn, by its name and size."""
    drawn = RANDOM_TEXT.fullmatch(path.name)
    there = path.lstat()
    return drawn is not None and stat.S_ISREG(there.st_mode) and there.st_size == int(drawn[1])


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a run or comparison against writing. Raises: UsageError if it is being written."""
    if _is_strange(folder / ".lock"):
        yield
        return
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _RunningError(f"{folder} is being trained", "stop it first, or wait") from None
    except OSError as error:
        raise _cannot_remove(folder, error) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # its folder may have been removed
            lock.release()


def _is_strange(lock: Path) -> bool:
    """Return True for a link, which is not followed, or a non-file: charlm holds no lock there."""
    try:
        return not stat.S_ISREG(lock.lstat().st_mode)
    except OSError:  # there is none yet
        return False


def _swept(aside: Path) -> Removed:
    """Delete the remains of a killed removal; return them under their former name."""
    size = size_of_tree(aside)
    former = next(aside.iterdir(), aside)
    try:
        shutil.rmtree(aside)
    except OSError as error:
        raise _cannot_remove(aside, error) from None
    return Removed(str(aside.parent / former.name), size)


def _removed(path: Path) -> Removed:
    """Rename a folder, so that it is no longer a run, and delete it."""
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
