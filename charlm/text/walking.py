"""Folders walked for the files that are text; whatever is left out is named with the reason."""

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from charlm import outputs
from charlm.config.schema import DataConfig
from charlm.errors import DataError
from charlm.files import cache_folder
from charlm.text.compressed import head_of, suffix_inside
from charlm.text.decoding import marked
from charlm.text.documents import document_of
from charlm.text.guessing import wide_codec
from charlm.text.objects import JSON_LINES, PARQUET

HEAD = 8192
"""Bytes by which a file is seen to be text."""
MOST_NAMED = 1000
"""Files that are left out by name; further ones are counted."""


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that is not read. path: below the folder that was named."""

    path: Path
    reason: str


@dataclass
class TextFiles:
    """The files of a text, in order. left_out: the first that are not read, of left_out_count."""

    files: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    left_out_count: int = 0

    def leave_out(self, path: Path, reason: str) -> None:
        """Add a file or folder that is not read."""
        self.left_out_count += 1
        if self.left_out_count <= MOST_NAMED:
            self.left_out.append(LeftOut(path, reason))


class FolderReader:
    """Adds the files of folders to those of a text: all that are walked first, before one is
    opened.

    listed: called with the number of files seen so far.

    Raises: DataError: a folder or file that cannot be read, or more files than `data.file_limit`.
    """

    def __init__(self, data: DataConfig, text: TextFiles, listed: Callable[[int], object]) -> None:
        self._data, self._text, self._listed = data, text, listed
        self._seen = 0
        self._key = _by_numbers if data.order == "natural" else str

    def add(self, root: Path) -> None:
        """Add the files of a folder and of those below it. Raises: DataError for none."""
        before, before_left_out = len(self._text.files), len(self._text.left_out)
        for file in list(self._walk(root)):
            if reason := self._reason(file):
                self._text.leave_out(file.relative_to(root), reason)
            else:
                self._text.files.append(file)
            self._listed(self._seen)
        if len(self._text.files) == before:
            left_out = self._text.left_out[before_left_out:]
            raise DataError(
                f"the folder {root} holds no text",
                "files count unless hidden or with a NUL byte; --set data.unit=byte takes all",
                [f"{one.path} ({one.reason})" for one in left_out],
            )

    def _walk(self, root: Path) -> Iterator[Path]:
        """Yield the regular files below a folder that may be text, in order: those of a folder
        before those of its sub-folders."""
        places = _place(root), _place(cache_folder())
        waiting = [root]
        while waiting:
            folder, below = waiting.pop(), []
            names = _names(folder)
            kind, own = outputs.own_names(names)
            if own and own == names and folder != root:
                self._text.leave_out(folder.relative_to(root), kind)
                continue
            for name in sorted(names, key=self._key):
                path = folder / name
                mode = 0 if name in own or name.startswith(".") else _mode(path)
                if stat.S_ISREG(mode):
                    self._count(root)
                    yield path
                    continue
                reason = kind if name in own else _reason_not_to_enter(path, mode, *places)
                if reason:
                    self._text.leave_out(path.relative_to(root), reason)
                else:
                    below.append(path)
            waiting += reversed(below)

    def _count(self, root: Path) -> None:
        """Count a file. Raises: DataError: there are too many."""
        self._seen += 1
        self._listed(self._seen)
        if self._seen > self._data.file_limit:
            raise DataError(
                f"there are more than {self._data.file_limit:,} files in {root}",
                "name the files and folders that are the text, each with --data, or raise the "
                f"limit: --set data.file_limit={10 * self._data.file_limit}",
            )

    def _reason(self, file: Path) -> str:
        """Return why a file of a folder is no part of the text, by what is in it, decompressed; ""
        where it is one."""
        if self._data.field:
            is_read = suffix_inside(file) in (JSON_LINES, PARQUET)
            return "" if is_read else "neither .jsonl nor .parquet"
        head = head_of(file, HEAD)
        if outputs.is_marked(head):
            return "made by charlm"
        if self._data.unit == "byte":
            return ""
        if not head:
            return "empty"
        if (document := document_of(file, head)) and not document.is_readable:
            return document.what
        if b"\0" not in head or self._is_wide(head):
            return ""
        codec = wide_codec(head)
        return f"{codec}, without a byte order mark" if codec else "binary"

    def _is_wide(self, head: bytes) -> bool:
        """Return True for UTF-16 and UTF-32, whose letters have NUL bytes; earlier versions, which
        read the files of a folder in the order of their names, left such files out."""
        codec = (marked(head)[0] or self._data.encoding).lower().replace("_", "-")
        return self._data.order == "natural" and codec.startswith(("utf-16", "utf-32", "utf16"))


def _names(folder: Path) -> set[str]:
    """Return the names in a folder. Raises: DataError: it cannot be read."""
    try:
        return set(os.listdir(folder))  # noqa: PTH208 (names only, of millions)
    except OSError as error:
        raise _cannot_read(error) from None


def _cannot_read(error: OSError) -> DataError:
    """Make the error for what stands in a folder and cannot be read: to leave it out would make
    another text of it without a word."""
    return DataError(
        f"cannot read {error.filename}: {error.strerror}",
        "check its permissions, or name the files and folders to be read, each with --data",
    )


def _mode(path: Path) -> int:
    """Return the mode of a file, followed where it is a link; 0 where it leads nowhere.

    Raises: DataError: it cannot be known.
    """
    try:
        return path.stat().st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return 0
        raise _cannot_read(error) from None


Place = tuple[int, int]


def _reason_not_to_enter(path: Path, mode: int, root: Place, cache: Place) -> str:
    """Return why what is no regular file is left out; "" for a folder that is to be walked."""
    if path.name.startswith("."):
        return "hidden"
    if not stat.S_ISDIR(mode):
        return "no regular file" if mode else "a broken link"
    if path.is_symlink():
        return "a link to a folder"
    place = _place(path)
    if place == cache:
        return "the cache of charlm"
    return "" if place[0] == root[0] else "another file system"


def _place(path: Path) -> Place:
    """Return the device and inode of a folder; (-1, -1) where there is none."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_dev, status.st_ino


def _by_numbers(name: str) -> tuple[list[int | str], str]:
    """Return by what names are put in natural order: 1, 2, 10."""
    parts: list[int | str] = [*re.split(r"(\d+)", name)]
    parts[1::2] = [int(part) for part in parts[1::2]]
    return parts, name
