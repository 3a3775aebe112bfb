"""Files: what travels with the package, the cache, and writes that survive a crash."""

import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

from charlm.errors import DataError


def shipped(installed: str, checkout: str) -> Path:
    """Return a folder that travels with charlm: `installed` inside the package, or, in a checkout,
    `checkout` at its top."""
    package = Path(str(files("charlm")))
    inside = package / installed
    return inside if inside.is_dir() else package.parent / checkout


def cache_folder() -> Path:
    """Return where encoded texts, downloads and kernels are kept: $CHARLM_CACHE, else the user's
    cache folder."""
    if chosen := os.environ.get("CHARLM_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "charlm"


def writable(folder: Path) -> Path:
    """Return a folder of the cache, made if need be. Raises: DataError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot write to the cache {folder}: {error.strerror}",
            "set CHARLM_CACHE to a folder that you can write to",
        ) from None
    return folder


def json_bytes(value: Any) -> bytes:
    """Format JSON as it stands in the files of a run."""
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def replace(path: Path, content: bytes) -> None:
    """Replace a file at once: readers and crashes see the old content or the new."""
    temporary = path.with_name(f".{path.name}.writing")
    write_synced(temporary, content)
    temporary.replace(path)
    sync_folder(path.parent)


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk (on POSIX systems)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
