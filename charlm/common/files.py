"""Files: those shipped with the package, the cache, and writes that survive a crash."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from charlm.common.errors import CharlmError, DataError, UsageError

ABANDONED_AFTER = 86_400
"""Seconds after which an unfinished file or folder counts as left by a killed process."""
OF_TEXTS = ("corpora", "downloads", "files", "latest", "locks", "named", "stdin")
"""Folders of the cache with texts or data about them: readable by their owner only."""
PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
MOST_OF_NAME = 255
"""Bytes of a file's name that file systems take."""
LONGEST_NAME = 80
"""Characters of a label in a file name; a longer one is cut and gets a hash."""


def name_of(label: str) -> str:
    """Return a label as a safe file name; that of a long label is cut and ends with its hash."""
    plain = re.sub(r"[^\w.=-]+", "_", label)
    if len(plain) <= LONGEST_NAME:
        return plain
    return f"{plain[:LONGEST_NAME]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"


def shipped(installed: str, checkout: str) -> Path:
    """Return a folder that is shipped with charlm: `installed` inside the package or, in a
    checkout, `checkout` at its top."""
    package = Path(__file__).parents[1]
    inside = package / installed
    return inside if inside.is_dir() else package.parent / checkout


def cache_folder() -> Path:
    """Return the folder of encoded texts, downloads and kernels: $CHARLM_CACHE, else in the user's
    cache folder."""
    if chosen := os.environ.get("CHARLM_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "charlm"


def writable(folder: Path) -> Path:
    """Return a folder of the cache, created if necessary, private to its owner.

    Raises: DataError if it cannot be created.
    """
    try:
        make_private(folder)
    except OSError as error:
        raise cannot_write_cache(folder, error) from None
    close_cache()
    return folder


def make_private(folder: Path) -> None:
    """Create a folder and its missing parents, private to their owner under any umask.

    Raises: OSError.
    """
    if not folder.is_dir():
        if not folder.parent.is_dir():
            make_private(folder.parent)
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)


def close_cache() -> None:
    """Remove other users' access to folders with texts, which earlier versions left open."""
    if os.name != "posix":
        return
    for name in OF_TEXTS:
        folder = cache_folder() / name
        with contextlib.suppress(OSError):  # there is none
            status = folder.stat()
            if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) & 0o077:
                folder.chmod(PRIVATE_FOLDER)


def private_file(path: Path) -> BinaryIO:
    """Open a new file for writing, private to its owner under any umask.

    Raises: OSError, also if something is in its place, including a link.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, PRIVATE_FILE), "wb")


def cannot_write_cache(folder: Path, error: OSError) -> DataError:
    """Make the error for a folder of the cache that cannot be written."""
    return DataError(
        f"cannot write to the cache {folder}: {error.strerror}",
        "set CHARLM_CACHE to a folder with room that you can write to, or make room there: "
        "charlm cache --clear",
    )


def sweep(
    folder: Path, pattern: str, seconds: float = ABANDONED_AFTER, *, spared: Path | None = None
) -> None:
    """Remove unfinished entries older than `seconds` from a folder, except `spared`; younger ones
    may still be in use."""
    for left in folder.glob(pattern):
        if left == spared:
            continue
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > seconds:
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink()


def size_of_tree(folder: Path) -> int:
    """Return the total bytes of all files below a folder; links are not followed."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # it may just have been removed
                total += os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118 (speed)
    return total


def refuse_links(folder: Path, names: Iterable[str], otherwise: str = "") -> None:
    """Check that no entry of a folder is a link: writing to it would change a file elsewhere,
    chosen by the maker of the folder.

    otherwise: more advice. Raises: UsageError.
    """
    for name in names:
        if (folder / name).is_symlink():
            raise UsageError(
                f"{folder / name} is a symbolic link, and nothing is written through it",
                f"replace it by its target, or remove it{otherwise}",
            )


def refuse_undecodable(path: Path | str, advice: str) -> None:
    """Refuse a name that no configuration or JSON can hold. Raises: UsageError if not UTF-8."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"the name {path} is not UTF-8", advice) from None


def refuse_no_file(path: Path | None, option: str, text: str | None = None) -> None:
    """Check that the file of an option can be written. text: scored, not overwritten. Raises:
    UsageError."""
    if path is None:
        return
    if text and path.exists() and Path(text).exists() and path.samefile(text):
        raise UsageError(f"{path} is the text that is scored", "name another page")
    if path.exists() and not path.is_file():
        kind = "a folder, not a file" if path.is_dir() else "not a file that can be replaced"
        raise UsageError(f"{path} is {kind}", f"name a file: {option} FILE")
    if not path.absolute().parent.is_dir():
        raise UsageError(
            f"there is no folder {path.parent}", f"make it, or name another file: {option} FILE"
        )


def refuse_no_folder(path: Path | None, option: str) -> None:
    """Check that the folder of an option exists or can be created. Raises: UsageError."""
    for place in (path, *path.parents) if path is not None else ():
        if place.exists() and not place.is_dir():
            raise UsageError(f"{place} is a file, not a folder", f"name a folder: {option} DIR")


def read_regular(path: Path, most: int | None = None) -> bytes:
    """Return a file's content, without ever blocking.

    Raises: OSError if it is not a regular file (such as a FIFO, which might block for ever) or has
        more than `most` bytes.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(handle, "rb") as file:  # noqa: PTH123 (of a handle)
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "it is no regular file", str(path))
        if most is not None and status.st_size > most:
            raise OSError(0, f"it has {status.st_size:,} bytes, more than {most:,}", str(path))
        return file.read()


def with_digest(body: bytes) -> bytes:
    """Prepend the SHA-256 of a file's content, so that damage is noticed."""
    return hashlib.sha256(body).hexdigest().encode("ascii") + b"\n" + body


def without_digest(content: bytes) -> bytes:
    """Undo `with_digest`. Raises: ValueError if the content is damaged."""
    check, _, body = content.partition(b"\n")
    if check.decode("ascii", "replace") != hashlib.sha256(body).hexdigest():
        raise ValueError("its SHA-256 is not the one that was written")
    return body


def json_bytes(value: Any) -> bytes:
    """Format JSON for the files of a run."""
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def replace(path: Path, content: bytes, *, private: bool = False) -> None:
    """Replace a file atomically: readers and crashes see the old content or the new.

    private: True makes it readable by its owner only.
    """
    temporary = _temporary(path)
    try:
        write_synced(temporary, content, private=private)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def _temporary(path: Path) -> Path:
    """Return the path under which a file is written before it is renamed."""
    name = f".{path.name}.writing"
    if len(os.fsencode(name)) > MOST_OF_NAME:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()}.writing"
    return path.with_name(name)


def create(path: Path, content: bytes) -> None:
    """Write a new file atomically; a file of the same content may be there.

    Raises: FileExistsError if another one is; OSError.
    """
    if path.is_symlink() or (path.exists() and path.read_bytes() != content):
        raise FileExistsError(path)
    replace(path, content)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that the user has asked for, atomically. Raises: CharlmError if it cannot be
    written."""
    try:
        replace(path, content)
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(path: Path, error: OSError) -> CharlmError:
    """Make the error for a file or folder that cannot be written."""
    return CharlmError(
        f"cannot write {path}: {error.strerror}",
        "make room, or name another place, and run the same command again",
    )


def write_synced(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write a new file and flush it to disk. A link in its place is not followed.

    private: True makes it readable by its owner only.
    """
    path.unlink(missing_ok=True)
    with private_file(path) if private else path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk (on POSIX systems)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
