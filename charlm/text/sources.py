"""Where a text comes from: files, folders, stdin, the package, the standard library, an address.

`find` turns `data.path` into files in a fixed order; everything after it only reads files.
"""

import hashlib
import os
import shutil
import stat
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

from charlm.config.schema import DataConfig
from charlm.errors import DataError
from charlm.files import (
    cache_folder,
    cannot_write_cache,
    refuse_undecodable,
    shipped,
    sweep,
    writable,
)
from charlm.text.compressed import blocks, suffix_inside
from charlm.text.objects import JSON_LINES, PARQUET

BUILTIN = "builtin:"
STANDARD_LIBRARY = "python:standard-library"

# Not the code that one reads: tests, generated tables, and packages that do not belong to Python.
NOT_LIBRARY = {
    *("test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages"),
    *("encodings", "pydoc_data", "__pycache__"),
}


def find(data: DataConfig) -> list[Path]:
    """Find the files of `data.path`, absolute and in a fixed order.

    Raises: DataError for a path that is missing, holds no text, or cannot be fetched.
    """
    files: list[Path] = []
    for path in _named(data):
        if path.startswith(BUILTIN):
            files.append(_builtin(path.removeprefix(BUILTIN)))
        elif path == STANDARD_LIBRARY:
            files.extend(standard_library())
        elif path.startswith("https://"):
            files.append(_download(path, data.sha256))
        else:
            files.extend(_files_below(Path(path), data))
    return files


def refuse_missing(data: DataConfig) -> None:
    """Check that the files and folders of `data.path` are there; none is opened, stdin not read.

    Raises: DataError.
    """
    for path in _named(data):
        if path.startswith(BUILTIN):
            _builtin(path.removeprefix(BUILTIN))
        elif path.startswith("https://"):
            _refuse_unchecked(path, data.sha256)
        elif is_local(path) and path != "-":
            _is_folder(Path(path).absolute())


def _named(data: DataConfig) -> list[str]:
    """List what `data.path` names. Raises: DataError for nothing."""
    paths = [data.path] if isinstance(data.path, str) else data.path
    if not paths or not all(paths):
        raise DataError("no text to train on: data.path is empty", "pass --data PATH")
    return paths


def absolute(path: str) -> str:
    """Make a path name the same text from every working directory; "-" becomes a file."""
    if path == "-":
        return str(_keep_stdin())
    if not is_local(path):
        return path
    refuse_undecodable(
        Path(path).absolute(), "rename it, or pipe it in: charlm train --data - < FILE"
    )
    return str(Path(path).absolute())


def is_local(path: str) -> bool:
    """Tell whether a path of `data.path` is a file or folder of this machine, or stdin."""
    return not path.startswith((BUILTIN, "https://")) and path not in ("", STANDARD_LIBRARY)


def standard_library() -> list[Path]:
    """List the source files of the running Python's standard library, by hash of the name: an order
    that is fixed, and has every kind of module in every split."""
    root = Path(sysconfig.get_path("stdlib"))
    found = [
        path
        for path in root.rglob("*.py")
        if not NOT_LIBRARY.intersection(path.relative_to(root).parts[:-1])
    ]
    if not found:
        raise DataError(
            f"this Python has no source files of its standard library in {root}",
            "pass a text of your own with --data PATH",
        )
    return sorted(
        found, key=lambda path: hashlib.sha256(path.relative_to(root).as_posix().encode()).digest()
    )


def _builtin(name: str) -> Path:
    folder = shipped("data", "data")
    if name not in {path.name for path in folder.glob("*.txt")}:
        raise DataError(f"no text called {name!r} comes with charlm", "pass --data PATH")
    return folder / name


def _files_below(path: Path, data: DataConfig) -> list[Path]:
    path = path.absolute()
    if not _is_folder(path):
        return [path]
    files = [file for file in _walk(path) if _counts(file, data)]
    if not files:
        raise DataError(
            f"the folder {path} holds no text",
            "files count unless hidden or with a NUL byte; --set data.unit=byte takes all",
        )
    return files


def _is_folder(path: Path) -> bool:
    """Return whether a path is a folder, not a file. Raises: DataError where it is neither."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"there is no file or folder {path}", "put the text there, or name another: --data PATH"
        ) from None
    except (OSError, ValueError) as error:  # a name that is too long, or has a NUL in it
        said = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {path}: {said}", "check the path given to --data") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError(f"{path} is neither a file nor a folder", "pipe it in: --data -")
    return stat.S_ISDIR(mode)


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(parent, name)
            if not name.startswith(".") and file.is_file():
                yield file


def _refuse(error: OSError) -> None:
    """Refuse a sub-folder that cannot be read, which `os.walk` would leave out without a word."""
    raise DataError(
        f"cannot read {error.filename}: {error.strerror}",
        "check its permissions, or name the files and folders to be read, each with --data",
    )


def _counts(file: Path, data: DataConfig) -> bool:
    """Tell whether a file of a folder is part of the text, by what is in it, decompressed."""
    if data.field:
        return suffix_inside(file) in (JSON_LINES, PARQUET)
    if data.unit == "byte":
        return True
    head = next(blocks(file), b"")[:8192]
    return bool(head) and b"\0" not in head


def _keep_stdin() -> Path:
    """Keep standard input as a file of the cache, so that a resumed run finds it again."""
    folder = writable(cache_folder() / "stdin")
    sweep(folder, "tmp*")
    digest = hashlib.sha256()
    try:
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as kept:
            temporary = Path(kept.name)
            try:
                while block := sys.stdin.buffer.read(1 << 20):
                    digest.update(block)
                    kept.write(block)
                if not kept.tell():
                    raise DataError(
                        "standard input is empty", "pipe a text into charlm, or name a file"
                    )
                kept.flush()
                os.fsync(kept.fileno())
                path = folder / f"{digest.hexdigest()[:16]}.txt"
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write_cache(folder, error) from None
    return path


def _download(address: str, sha256: str) -> Path:
    import urllib.error  # here, because it brings in ssl and http: 50 ms at every start
    import urllib.request

    _refuse_unchecked(address, sha256)
    path = cache_folder() / "downloads" / f"{sha256[:16]}-{address.rsplit('/', 1)[-1]}"
    if path.is_file() and _sha256(path) == sha256:
        return path
    folder = writable(path.parent)
    sweep(folder, "tmp*")
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as kept:
        temporary = Path(kept.name)
        try:
            with urllib.request.urlopen(address, timeout=20) as answer:  # noqa: S310 (https only)
                shutil.copyfileobj(answer, kept)
        except (urllib.error.URLError, OSError, ValueError) as error:
            temporary.unlink()
            reason = getattr(error, "reason", error)
            raise DataError(
                f"cannot fetch {address}: {reason}",
                "if you have the text, pass it: --data PATH",
            ) from None
    if (seen := _sha256(temporary)) != sha256:
        temporary.unlink()
        raise DataError(
            f"{address} is not the text that was expected: its SHA-256 is {seen}",
            "if you have the text, pass it: --data PATH",
        )
    temporary.replace(path)
    return path


def _refuse_unchecked(address: str, sha256: str) -> None:
    if not sha256:
        raise DataError(f"{address} has no data.sha256 to check it by", "set data.sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
