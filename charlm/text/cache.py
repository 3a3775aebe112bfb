"""The cache as a whole: its size by kind, and its removal.

CHARLM_CACHE may name a folder that holds other files, too. So only files whose names match `NAMES`
are counted and removed.
"""

import contextlib
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from charlm.common.errors import CharlmError
from charlm.common.files import ABANDONED_AFTER, cache_folder, size_of_tree
from charlm.text.symbols import UNFINISHED, in_use, set_aside

KINDS = {
    "texts": "encoded texts",
    "stdin": "texts from stdin",
    "downloads": "downloaded texts",
    "tasks": "texts of tasks",
    "kernels": "compiled kernels",
    "other": "measurements of files",
}
NAMES = {
    "texts": {"corpora": rf"[0-9a-f]{{24}}-\d+|{re.escape(UNFINISHED)}.+"},
    "stdin": {"stdin": r"[0-9a-f]{16,64}.*|tmp.+"},
    "downloads": {"downloads": r"[0-9a-f]{16}-.+|tmp.+"},
    "tasks": {"tasks": r"[a-z]+\.txt|tmp.+"},
    "kernels": {"kernels": r"[0-9a-f]{24}\..+|\.building-.+"},
    "other": {
        "files": r"\.?[0-9a-f]{24}(\.writing)?",
        "latest": r"\.?[0-9a-f]{24}(\.writing)?",
        "locks": r"[0-9a-f]{24}-\d+\.lock",
    },
}
"""For each kind, its folders and the pattern of the names that charlm gives to files there."""
BEING_WRITTEN = re.compile(r"tmp.+|.+\.writing")
"""Names of files that another process may be writing without a lock."""
UNUSED_AFTER = 90 * 86_400
"""Seconds after which an encoded text that nothing has opened is removed."""


def sizes() -> dict[str, int]:
    """Return the size of every kind in bytes."""
    return {kind: sum(map(_size, _entries(kind))) for kind in KINDS}


def clear() -> list[str]:
    """Remove all that can be made or fetched again; return the names of entries still in use.

    Texts from stdin cannot be fetched again, and are kept.

    Raises: CharlmError if the system refuses.
    """
    kept = []
    for kind in ("texts", "downloads", "tasks", "kernels", "other"):
        entries = list(_entries(kind))
        if kind == "kernels" and any(map(_is_locked, entries)):  # they are being compiled
            kept.append(KINDS[kind])
            continue
        for path in entries:
            if path.suffix == ".lock" and _is_locked(path):
                continue
            if not _remove(path):
                kept.append(path.name)
    return kept


def drop_unused() -> None:
    """Remove encoded texts that nothing has opened for `UNUSED_AFTER` seconds."""
    for path in _entries("texts"):
        with contextlib.suppress(OSError, CharlmError):  # it may be removed another time
            if _age(path) > UNUSED_AFTER:
                _remove(path)


def _remove(path: Path) -> bool:
    """Remove a file, a link or a folder; return False if it is in use and was kept.

    Raises: CharlmError if the system refuses.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            if not _is_free(path):
                return False
            if path.name.startswith("."):  # no other process looks for it
                shutil.rmtree(path)
            else:
                set_aside(path)
        elif BEING_WRITTEN.fullmatch(path.name) and _age(path) < ABANDONED_AFTER:
            return False
        else:
            path.unlink()
    except FileNotFoundError:  # another process has removed it
        pass
    except OSError as error:
        raise CharlmError(
            f"cannot remove {path}: {error.strerror}", f"check the permissions of {path.parent}"
        ) from None
    return True


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _size(path: Path) -> int:
    if path.is_dir() and not path.is_symlink():
        return size_of_tree(path)
    try:
        return path.lstat().st_size
    except OSError:  # it has just gone
        return 0


def _entries(kind: str) -> Iterator[Path]:
    """Yield the cache's entries of a kind. A link in place of a folder is not followed."""
    for name, pattern in NAMES[kind].items():
        folder = cache_folder() / name
        if folder.is_dir() and not folder.is_symlink():
            for path in sorted(folder.iterdir()):
                if re.fullmatch(pattern, path.name):
                    yield path


def _is_free(folder: Path) -> bool:
    """Return True if no process reads or writes an encoded text."""
    if folder.name.startswith(UNFINISHED):
        name = folder.name.removeprefix(UNFINISHED)
        return not _is_locked(cache_folder() / "locks" / f"{name}.lock")
    return not in_use(folder)


def _is_locked(path: Path) -> bool:
    """Return True if another process holds a lock."""
    if path.suffix != ".lock" or not path.is_file() or path.is_symlink():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return True
    lock.release()
    return False
