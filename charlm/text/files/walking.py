"""Search of folders for text files; every file left out is listed with the reason."""

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from charlm.common import outputs
from charlm.common.errors import DataError
from charlm.common.files import cache_folder
from charlm.text.files.compressed import head_of, suffix_inside
from charlm.text.files.decoding import marked
from charlm.text.files.documents import document_of
from charlm.text.files.guessing import wide_codec
from charlm.text.files.objects import JSON_LINES, PARQUET

if TYPE_CHECKING:
    from charlm.config.schema import DataConfig

HEAD = 8192
"""Bytes by which a text file is recognised."""
MOST_NAMED = 1000
"""Files left out that are listed by name; further ones are only counted."""
MOST_SHOWN = 5
"""Files left out that a message names."""


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that is not read. path: relative to the folder of `data.path`."""

    path: Path
    reason: str


@dataclass
class TextFiles:
    """The files of a text, in order.

    left_out: entries that are not read, at most `MOST_NAMED`. left_out_count: how many there are.
    """

    files: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    left_out_count: int = 0

    def leave_out(self, path: Path, reason: str) -> None:
        """Add a file or folder that is not read."""
        self.left_out_count += 1
        if self.left_out_count <= MOST_NAMED:
            self.left_out.append(LeftOut(path, reason))

    def left_out_text(self) -> str:
        """Describe the entries that are not read, the first of them by name."""
        first = ", ".join(f"{one.path} ({one.reason})" for one in self.left_out[:MOST_SHOWN])
        more = ", ..." if self.left_out_count > MOST_SHOWN else ""
        return f"{self.left_out_count:,} left out: {first}{more}"


class FolderReader:
    """A reader that adds the files of folders to a text. A folder is walked to its end before the
    first of its files is opened.

    listed: called with the number of files seen so far.

    Raises: DataError for an unreadable folder or file, and for more files than `data.file_limit`.
    """

    def __init__(
        self, data: "DataConfig", text: TextFiles, listed: Callable[[int], object]
    ) -> None:
        self._data, self._text, self._listed = data, text, listed
        self._seen = 0
        self._key = _by_numbers if data.order == "natural" else str

    def add(self, root: Path) -> None:
        """Add the files of a folder and its sub-folders. Raises: DataError if there are none."""
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
        """Yield the regular files below a folder that may be text, in order: a folder's own files
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
        """Count a file. Raises: DataError if there are too many."""
        self._seen += 1
        self._listed(self._seen)
        if self._seen > self._data.file_limit:
            raise DataError(
                f"there are more than {self._data.file_limit:,} files in {root}",
                "name the files and folders that are the text, each with --data, or raise the "
                f"limit: --set data.file_limit={10 * self._data.file_limit}",
            )

    def _reason(self, file: Path) -> str:
        """Return the reason to leave out a file by its content, decompressed; "" if none."""
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
        """Return True for UTF-16 and UTF-32, whose letters contain NUL bytes. Earlier versions,
        which read a folder's files in the order of their names, left such files out."""
        codec = (marked(head)[0] or self._data.encoding).lower().replace("_", "-")
        return self._data.order == "natural" and codec.startswith(("utf-16", "utf-32", "utf16"))


def _names(folder: Path) -> set[str]:
    """Return the names in a folder. Raises: DataError if it cannot be read."""
    try:
        return set(os.listdir(folder))  # noqa: PTH208 (names only, of millions)
    except OSError as error:
        raise _cannot_read(error) from None


def _cannot_read(error: OSError) -> DataError:
    """Make the error for an unreadable entry of a folder. (To leave it out would change the text
    without notice.)"""
    return DataError(
        f"cannot read {error.filename}: {error.strerror}",
        "check its permissions, or name the files and folders to be read, each with --data",
    )


def _mode(path: Path) -> int:
    """Return the mode of a file, or of a link's target; 0 for a broken link.

    Raises: DataError if it cannot be read.
    """
    try:
        return path.stat().st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return 0
        raise _cannot_read(error) from None


Place = tuple[int, int]


def _reason_not_to_enter(path: Path, mode: int, root: Place, cache: Place) -> str:
    """Return the reason to leave out an entry other than a file; "" for a folder to walk."""
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
    """Return the device and inode of a folder; (-1, -1) if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_dev, status.st_ino


def _by_numbers(name: str) -> tuple[list[int | str], str]:
    """Return a sort key for the natural order of names: 1, 2, 10."""
    parts: list[int | str] = [*re.split(r"(\d+)", name)]
    parts[1::2] = [int(part) for part in parts[1::2]]
    return parts, name
