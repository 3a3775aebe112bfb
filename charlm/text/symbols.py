"""Encoded symbols on disk, mapped into memory.

Opening reads no symbols: each part is compared with its digest before it is first used, so that
damage is always noticed.
"""

import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

if sys.platform != "win32":
    import fcntl

from charlm.common.errors import DataError
from charlm.common.files import cache_folder, read_regular
from charlm.text.shards import DIGEST_SIZE, PART, Shard, digests_path, symbols_path
from charlm.text.vocabulary import Symbols

UNFINISHED = ".encoding-"
"""Prefix of folders in the cache that are incomplete or discarded encoded texts."""


@dataclass
class _Mapped:
    """The symbols of a shard, the digests of its parts, and a flag for each part: True once it was
    compared with its digest."""

    symbols: Symbols
    digests: bytes
    checked: Symbols


class SymbolFile:
    """An encoded text in a folder, used like an array. A slice is another `SymbolFile`, and reads
    nothing. An index, an array of indices and `numpy.asarray` read symbols, checked before that.

    A shard holds symbols of up to three splits. Here each split is contiguous: the train symbols of
    all shards come first, then those of validation, then those of test.

    Raises: ValueError if a shard or its digests have the wrong size; DataError on reading symbols
        of a damaged part. The folder is then removed; it can be made again from the text.
    """

    def __init__(self, folder: Path, dtype: np.dtype[Any], shards: Sequence[Shard]) -> None:
        for number, shard in enumerate(shards):
            digests = -(-shard.size // PART) * DIGEST_SIZE
            for path, size in ((symbols_path, shard.size), (digests_path, digests)):
                if (seen := path(folder, number).stat().st_size) != size:
                    name = path(folder, number).name
                    raise ValueError(f"{name} has {seen:,} bytes instead of {size:,}")
            if sum(shard.counts) * dtype.itemsize != shard.size:
                raise ValueError(f"shard {number} has another number of symbols")
        self._folder, self.dtype, self._shards = folder, dtype, shards
        counts = np.array([shard.counts for shard in shards], np.int64)
        offsets = np.cumsum(counts, 1) - counts
        filled = np.flatnonzero(counts.T)
        self._number = filled % len(shards)
        self._offset = offsets.T.reshape(-1)[filled]
        self._ends = np.cumsum(counts.T.reshape(-1)[filled])
        self._begins = self._ends - counts.T.reshape(-1)[filled]
        self._mapped: dict[int, _Mapped] = {}
        self._mark = _Mark(folder)
        self._start, self._stop = 0, int(counts.sum())

    def __len__(self) -> int:
        return self._stop - self._start

    @property
    def size(self) -> int:
        """The number of symbols."""
        return len(self)

    def __getitem__(self, at: Any) -> Any:
        """Return a slice, unread; or the symbols at positions from 0. Raises: IndexError."""
        if isinstance(at, slice):
            start, stop, step = at.indices(len(self))
            assert step == 1
            view = object.__new__(type(self))
            view.__dict__ = self.__dict__ | {
                "_start": self._start + start,
                "_stop": self._start + max(start, stop),
            }
            return view
        positions = np.asarray(at)
        if not positions.size:
            return np.empty(positions.shape, self.dtype)
        low, high = int(positions.min()), int(positions.max())
        if low < 0 or high >= len(self):
            raise IndexError(f"positions are 0 to {len(self) - 1}")
        positions = positions + self._start
        first, last = self._stretch(low + self._start), self._stretch(high + self._start)
        if first == last:
            return self._take(first, positions)
        flat = positions.reshape(-1)
        order = np.argsort(flat, kind="stable")
        cuts = np.searchsorted(flat[order], self._ends[first:last])
        values = np.empty(flat.size, self.dtype)
        for number, chosen in enumerate(np.split(order, cuts), first):
            if chosen.size:
                values[chosen] = self._take(number, flat[chosen])
        return values.reshape(positions.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Symbols:
        pieces = [np.empty(0, self.dtype)]
        if len(self):
            first, last = self._stretch(self._start), self._stretch(self._stop - 1)
            pieces = [self._whole(number) for number in range(first, last + 1)]
        joined = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        return joined if dtype is None else joined.astype(dtype)

    def tolist(self) -> list[int]:
        """Return all symbols as a list."""
        values: list[int] = np.asarray(self).tolist()
        return values

    def map_all(self) -> None:
        """Map all shards at once: mapped files stay readable after they are removed."""
        for number in np.unique(self._number).tolist():
            self._shard(number)

    def _stretch(self, position: int) -> int:
        """Return the number of the stretch with a position."""
        return int(np.searchsorted(self._ends, position, "right"))

    def _take(self, stretch: int, positions: Symbols) -> Any:
        """Take symbols of one stretch."""
        number = int(self._number[stretch])
        shard = self._shard(number)
        places = positions - (self._begins[stretch] - self._offset[stretch])
        parts = places * self.dtype.itemsize // PART
        if not shard.checked[parts].all():
            self._check(number, np.unique(parts))
        return shard.symbols[places]

    def _whole(self, stretch: int) -> Symbols:
        """Return the symbols of a stretch within this slice."""
        number, shift = int(self._number[stretch]), self._begins[stretch] - self._offset[stretch]
        start = int(max(self._start, self._begins[stretch]) - shift)
        stop = int(min(self._stop, self._ends[stretch]) - shift)
        size = self.dtype.itemsize
        self._check(number, np.arange(start * size // PART, -(-stop * size // PART)))
        return self._shard(number).symbols[start:stop]

    def _shard(self, number: int) -> _Mapped:
        """Map a shard when it is first used."""
        if (mapped := self._mapped.get(number)) is not None:
            return mapped
        try:
            digests = read_regular(digests_path(self._folder, number))
            # A plain array: indexing a `memmap` makes another one, which is four times slower.
            symbols = np.asarray(np.memmap(symbols_path(self._folder, number), self.dtype, "r"))
        except (OSError, ValueError) as error:
            raise self._damaged(symbols_path(self._folder, number).name, str(error)) from None
        if hashlib.sha256(digests).hexdigest() != self._shards[number].digest:
            name = digests_path(self._folder, number).name
            raise self._damaged(name, "its SHA-256 is not the one that was written")
        checked = np.zeros(len(digests) // DIGEST_SIZE, np.bool_)
        mapped = self._mapped[number] = _Mapped(symbols, digests, checked)
        return mapped

    def _check(self, number: int, parts: Symbols) -> None:
        """Compare parts of a shard with their digests."""
        shard = self._shard(number)
        unchecked = parts[~shard.checked[parts]]
        if not unchecked.size:
            return
        content = shard.symbols.view(np.uint8)
        for part in unchecked.tolist():
            digest = hashlib.sha256(content[part * PART : (part + 1) * PART].data).digest()
            if digest != shard.digests[part * DIGEST_SIZE : (part + 1) * DIGEST_SIZE]:
                name = symbols_path(self._folder, number).name
                raise self._damaged(
                    name, f"the SHA-256 of its part {part} is not the one that was written"
                )
            shard.checked[part] = True

    def _damaged(self, name: str, how: str) -> DataError:
        """Remove the damaged folder, and make the error that reports it."""
        advice = "it is deleted, and is made again from the text"
        try:
            set_aside(self._folder)
        except OSError:
            advice = "delete that folder, and it is made again from the text"
        return DataError(
            f"the encoded text in {self._folder} was damaged: {name}: {how}",
            f"{advice}; then run the same command again (a run: with --resume)",
        )


class _Mark:
    """A shared lock on an encoded text, held while this object lives, so that other processes know
    that it is being read (on systems with shared locks)."""

    def __init__(self, folder: Path) -> None:
        self._handle: int | None = None
        if sys.platform == "win32":
            return
        with contextlib.suppress(OSError):  # it is being removed, or there are no locks
            self._handle = os.open(symbols_path(folder, 0), os.O_RDONLY)
            fcntl.flock(self._handle, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def __del__(self) -> None:
        if self._handle is not None:
            os.close(self._handle)


def in_use(folder: Path) -> bool:
    """Return True if a process reads the encoded text in a folder."""
    if sys.platform == "win32":
        return False
    try:
        with symbols_path(folder, 0).open("rb") as mark:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is no such file
        return False
    return False


def set_aside(folder: Path) -> None:
    """Rename a damaged folder at once, then delete it. Raises: OSError."""
    aside = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder.parent))
    with contextlib.suppress(FileNotFoundError):  # another process has renamed it
        folder.rename(aside / folder.name)
    shutil.rmtree(aside, ignore_errors=True)


SymbolSource = Symbols | SymbolFile
"""A source of symbols: memory or a file."""


def refuse_out_of_bounds(symbols: Symbols, vocabulary_size: int) -> None:
    """Check symbols before they are used as indices. Raises: DataError for one out of bounds."""
    if symbols.size and (largest := int(symbols.max())) >= vocabulary_size:
        raise DataError(
            f"the encoded text holds symbol {largest}, the vocabulary has {vocabulary_size}",
            f"it is damaged: delete {cache_folder() / 'corpora'}; it is made again from the text",
        )
