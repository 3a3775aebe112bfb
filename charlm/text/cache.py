"""The cache as a whole: what is in it by kind, and how it is cleared."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from charlm.files import cache_folder, size_of_tree
from charlm.text.symbols import UNFINISHED, in_use

KINDS = {
    "texts": "encoded texts",
    "stdin": "texts from stdin",
    "downloads": "downloaded texts",
    "kernels": "compiled kernels",
    "other": "what files were like",
}
FOLDERS = {"texts": ("corpora",), "other": ("files", "latest", "locks")}
"""The folders of a kind, where they have other names than the kind."""


def sizes() -> dict[str, int]:
    """Return the bytes of every kind."""
    return {kind: sum(map(size_of_tree, _folders(kind))) for kind in KINDS}


def clear() -> list[str]:
    """Remove what can be made or fetched again; return the names of what is in use and stays.

    A text from stdin cannot be made again, and stays.
    """
    kept = []
    for kind in ("texts", "downloads", "kernels", "other"):
        if kind == "kernels" and any(map(_is_locked, _locks(kind))):  # they are being compiled
            kept.append(KINDS[kind])
            continue
        for path in _entries(kind):
            if path.is_symlink() or not path.is_dir():
                with contextlib.suppress(OSError):
                    path.unlink()
            elif _is_free(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                kept.append(path.name)
    return kept


def _folders(kind: str) -> list[Path]:
    folders = [cache_folder() / name for name in FOLDERS.get(kind, (kind,))]
    return [folder for folder in folders if folder.is_dir()]


def _entries(kind: str) -> Iterator[Path]:
    """Yield what is in the folders of a kind, but for locks that are held."""
    for folder in _folders(kind):
        for path in sorted(folder.iterdir()):
            if path.suffix != ".lock" or not _is_locked(path):
                yield path


def _locks(kind: str) -> list[Path]:
    return [path for folder in _folders(kind) for path in folder.glob("*.lock")]


def _is_free(folder: Path) -> bool:
    """Return True for an encoded text that no process reads or writes."""
    if folder.name.startswith(UNFINISHED):
        name = folder.name.removeprefix(UNFINISHED)
        return not _is_locked(cache_folder() / "locks" / f"{name}.lock")
    return not in_use(folder)


def _is_locked(path: Path) -> bool:
    """Return True where another process holds a lock."""
    if not path.is_file() or path.is_symlink():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return True
    lock.release()
    return False
