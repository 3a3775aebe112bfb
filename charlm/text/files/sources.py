"""Sources of a text: files, folders, stdin, the package, the standard library, a task, an address.

`find` turns `data.path` into files in a fixed order; all other modules only read files.
"""

import hashlib
import re
import shutil
import stat
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from charlm.common import outputs
from charlm.common.errors import DataError, UsageError
from charlm.common.files import (
    cache_folder,
    cannot_write_cache,
    refuse_undecodable,
    shipped,
    sweep,
    writable,
)
from charlm.text.files import compressed, streams, tasks
from charlm.text.files.walking import FolderReader, TextFiles

if TYPE_CHECKING:
    from charlm.config.schema import DataConfig

BUILTIN = "builtin:"
STANDARD_LIBRARY = "python:standard-library"
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
FOR_ADDRESSES = (
    "download it and name the file, or give an https:// address with its SHA-256: "
    "--data https://... --set data.sha256=..."
)

# Left out: tests, generated tables, and packages that are not part of Python.
NOT_LIBRARY = {
    *("test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages"),
    *("encodings", "pydoc_data", "__pycache__"),
}


def find(data: "DataConfig", listed: Callable[[int], object] = lambda _: None) -> TextFiles:
    """Find the files of `data.path`, absolute and in a fixed order.

    listed: called with the number of files seen so far.

    Raises: DataError for a path that is missing, holds no text, or cannot be fetched.
    """
    text = TextFiles()
    folders = FolderReader(data, text, listed)
    for path in _named(data):
        if path.startswith(BUILTIN):
            text.files.append(_builtin(path.removeprefix(BUILTIN)))
        elif path.startswith(tasks.PREFIX):
            text.files.append(_made(path))
        elif path == STANDARD_LIBRARY:
            text.files.extend(standard_library())
        elif is_address(path):
            text.files.append(_download(path, data.sha256))
        elif not _is_folder(local := Path(path).absolute()):
            text.files.append(local)
        else:
            folders.add(local)
    return text


def find_documents(paths: Sequence[str], data: "DataConfig") -> TextFiles:
    """Find the files of several documents, in order. A folder is walked as in training, and each of
    its texts is a document; "-" is stdin.

    data: of the run that reads them.

    Raises: DataError for a path that is missing, empty or unreadable; UsageError for a run, and for
        a file that is named twice.
    """
    found = TextFiles()
    for path in paths:
        file = Path(path)
        if path == streams.STDIN:
            found.files.append(file)
        elif path and file.is_dir():
            _add_documents(found, file, data)
        else:
            compressed.refuse_unreadable(file)
            if file.is_file() and not file.stat().st_size:
                raise DataError(f"{path} is empty", "leave it out, or name another text")
            found.files.append(_not_stdin(file))
    _refuse_twice(found.files)
    return found


def _add_documents(found: TextFiles, folder: Path, data: "DataConfig") -> None:
    """Add the texts of a folder. Raises: DataError if it has none; UsageError for a run."""
    inside = TextFiles([], found.left_out, found.left_out_count)
    try:
        names = {path.name for path in folder.iterdir()}
        kind, own = outputs.own_names(names)
        if own and own == names:
            raise UsageError(f"{folder} is {kind}, not a text", "name another run with --against")
        FolderReader(data, inside, lambda _: None).add(folder)
    except OSError as error:
        raise compressed.cannot_read(folder, error) from None
    except DataError as error:
        raise DataError(error.what, "name the files that are texts", error.details) from None
    for file in inside.files:
        if file.stat().st_size:
            found.files.append(_not_stdin(file))
        else:  # a model of bytes reads any file
            inside.leave_out(file.relative_to(folder), "empty")
    found.left_out_count = inside.left_out_count


def _not_stdin(file: Path) -> Path:
    """Return the path of a file; absolute for one in the working directory with stdin's name."""
    return file.absolute() if str(file) == streams.STDIN else file


def _refuse_twice(files: Sequence[Path]) -> None:
    """Check that no document is named twice: it would count twice. Raises: UsageError."""
    seen: dict[object, Path] = {}
    for file in files:
        if str(file) == streams.STDIN:
            place: object = streams.STDIN
        else:
            status = file.stat()
            place = status.st_dev, status.st_ino
        if (before := seen.setdefault(place, file)) is not file:
            same = "is named twice" if before == file else f"and {before} are the same file"
            raise UsageError(f"{file} {same}", "name each document once")


def refuse_absent(paths: str | Sequence[str]) -> None:
    """Check that files and folders exist, without opening them or stdin. Raises: DataError."""
    for path in [paths] if isinstance(paths, str) else paths:
        if is_local(path) and not streams.is_stream(path):
            _is_folder(Path(path).absolute())


def refuse_missing(data: "DataConfig") -> None:
    """Check that the files and folders of `data.path` exist, without opening them or stdin.

    Raises: DataError.
    """
    for path in _named(data):
        if path.startswith(BUILTIN):
            _builtin(path.removeprefix(BUILTIN))
        elif path.startswith(tasks.PREFIX):
            tasks.named_by(path)
        elif is_address(path):
            _refuse_unchecked(path, data.sha256)
        else:
            refuse_absent(path)


def _named(data: "DataConfig") -> list[str]:
    """List the paths of `data.path`. Raises: DataError if there is none."""
    paths = [data.path] if isinstance(data.path, str) else data.path
    if not paths or not all(paths):
        raise DataError("no text to train on: data.path is empty", "pass --data PATH")
    return paths


def absolute(path: str) -> str:
    """Return a path that names the same text from every working directory and in every process.

    A stream, which can be read only once, is copied to a file.
    """
    if streams.is_stream(path):
        return str(streams.copy_to_cache(path))
    if not is_local(path):
        return path
    refuse_undecodable(
        Path(path).absolute(), "rename it, or pipe it in: charlm train --data - < FILE"
    )
    return str(Path(path).absolute())


def is_address(path: str) -> bool:
    """Return True if a path is a URL, of any scheme."""
    return ADDRESS.match(path) is not None


def is_local(path: str) -> bool:
    """Return True if a path of `data.path` is a file or folder of this machine, or stdin."""
    is_elsewhere = path.startswith((BUILTIN, tasks.PREFIX)) or is_address(path)
    return not is_elsewhere and path not in ("", STANDARD_LIBRARY)


def standard_library() -> list[Path]:
    """List the source files of the running Python's standard library, sorted by a hash of the name:
    a fixed order that puts every kind of module into every split."""
    root = Path(sysconfig.get_path("stdlib"))
    modules = [
        path
        for path in root.rglob("*.py")
        if not NOT_LIBRARY.intersection(path.relative_to(root).parts[:-1])
    ]
    if not modules:
        raise DataError(
            f"this Python has no source files of its standard library in {root}",
            "pass a text of your own with --data PATH",
        )
    return sorted(
        modules,
        key=lambda path: hashlib.sha256(path.relative_to(root).as_posix().encode()).digest(),
    )


def _builtin(name: str) -> Path:
    folder = shipped("data", "data")
    if name not in {path.name for path in folder.glob("*.txt")}:
        raise DataError(f"no text called {name!r} comes with charlm", "pass --data PATH")
    return folder / name


def _made(path: str) -> Path:
    """Write, if it is missing, the text of a task to the cache; return the file."""
    task = tasks.named_by(path)
    content = task.training_text().encode()
    file = cache_folder() / "tasks" / f"{task.name}.txt"
    if file.is_file() and file.read_bytes() == content:
        return file
    try:
        folder = writable(file.parent)
        sweep(folder, "tmp*")
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as whole:
            whole.write(content)
        Path(whole.name).replace(file)
    except OSError as error:
        raise cannot_write_cache(file.parent, error) from None
    return file


def _is_folder(path: Path) -> bool:
    """Return True if a path is a folder. Raises: DataError if it is not a file either."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"there is no file or folder {path}", "put the text there, or name another: --data PATH"
        ) from None
    except (OSError, ValueError) as error:  # the name is too long or contains a NUL
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {path}: {reason}", "check the path given to --data") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError(f"{path} is neither a file nor a folder", "pipe it in: --data -")
    return stat.S_ISDIR(mode)


def _download(address: str, sha256: str) -> Path:
    import urllib.error  # here, because it imports ssl and http: 50 ms at every start
    import urllib.request

    _refuse_unchecked(address, sha256)
    path = cache_folder() / "downloads" / f"{sha256[:16]}-{address.rsplit('/', 1)[-1]}"
    if path.is_file() and _sha256(path) == sha256:
        return path
    folder = writable(path.parent)
    sweep(folder, "tmp*")
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as copy:
        temporary = Path(copy.name)
        try:
            with urllib.request.urlopen(address, timeout=20) as answer:  # noqa: S310 (https only)
                shutil.copyfileobj(answer, copy)
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
    if not address.startswith("https://"):
        raise DataError(f"{address} is an address that is not read", FOR_ADDRESSES)
    if not sha256:
        raise DataError(f"{address} has no data.sha256 to check it by", FOR_ADDRESSES)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
