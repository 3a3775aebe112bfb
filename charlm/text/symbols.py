"""Encoded symbols on disk, mapped into memory: each shard is compared with its digest before it is
first used, so that a start reads none of them and nothing damaged is ever used."""

import contextlib
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from charlm.errors import DataError
from charlm.text.vocabulary import Symbols

SHARD = 1 << 18
"""Bytes that share a digest: a first window of 64 lanes checks at most 16 MB."""
SYMBOLS, DIGESTS = "symbols.bin", "symbols.sha256"
UNFINISHED = ".encoding-"
"""How the names of folders in the cache begin that are not, or no longer, encoded texts."""
DIGEST_SIZE = hashlib.sha256().digest_size


class SymbolWriter:
    """Writes symbols to a folder, with the digest of every shard."""

    def __init__(self, folder: Path) -> None:
        self._out = (folder / SYMBOLS).open("wb")
        self._shard, self._room = hashlib.sha256(), SHARD
        self._digests: list[bytes] = []

    def write(self, symbols: Symbols) -> None:
        """Append symbols."""
        left = memoryview(symbols.tobytes())
        self._out.write(left)
        while left:
            piece, left = left[: self._room], left[self._room :]
            self._shard.update(piece)
            self._room -= len(piece)
            if not self._room:
                self._end_shard()

    def finish(self) -> tuple[Any, bytes]:
        """Return the open file, to be synced and closed, and the digests of all shards."""
        if self._room < SHARD:
            self._end_shard()
        return self._out, b"".join(self._digests)

    def close(self) -> None:
        self._out.close()

    def _end_shard(self) -> None:
        self._digests.append(self._shard.digest())
        self._shard, self._room = hashlib.sha256(), SHARD


class SymbolFile:
    """The symbols of a folder. A slice is a `SymbolFile`, too, and reads nothing; what is taken by
    number, by an array of numbers or as a whole (`numpy.asarray`) is checked first.

    Raises: ValueError where there are not `count` symbols and their digests; DataError, on taking
        symbols from a damaged shard. The folder is removed then, to be made again from the text.
    """

    def __init__(self, folder: Path, dtype: np.dtype[Any], count: int) -> None:
        size = (folder / SYMBOLS).stat().st_size
        if size != count * dtype.itemsize:
            raise ValueError(f"{SYMBOLS} has {size:,} bytes instead of {count * dtype.itemsize:,}")
        shards = -(-size // SHARD)
        size = (folder / DIGESTS).stat().st_size
        if size != shards * DIGEST_SIZE:
            raise ValueError(f"{DIGESTS} has {size:,} bytes instead of {shards * DIGEST_SIZE:,}")
        self._folder, self.dtype = folder, dtype
        # As plain arrays: to take elements of a `memmap` makes another one, four times as slowly.
        self._all = np.asarray(np.memmap(folder / SYMBOLS, dtype, mode="r"))
        digests = np.asarray(np.memmap(folder / DIGESTS, np.uint8, mode="r"))
        self._digests = digests.reshape(-1, DIGEST_SIZE)
        self._checked = np.zeros(shards, np.bool_)
        self._start, self._stop = 0, count

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
        if positions.size and (positions.min() < 0 or positions.max() >= len(self)):
            raise IndexError(f"positions are 0 to {len(self) - 1}")
        positions = positions + self._start
        shards = positions * self.dtype.itemsize // SHARD
        if not self._checked[shards].all():
            self._check(np.unique(shards))
        return self._all[positions]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Symbols:
        size = self.dtype.itemsize
        self._check(np.arange(self._start * size // SHARD, -(-self._stop * size // SHARD)))
        found = np.asarray(self._all[self._start : self._stop])
        return found if dtype is None else found.astype(dtype)

    def tolist(self) -> list[int]:
        """Return all symbols as a list."""
        found: list[int] = np.asarray(self).tolist()
        return found

    def _check(self, shards: Symbols) -> None:
        unchecked = shards[~self._checked[shards]]
        if not unchecked.size:
            return
        content = self._all.view(np.uint8)
        for number in unchecked.tolist():
            digest = hashlib.sha256(content[number * SHARD : (number + 1) * SHARD].data).digest()
            if digest != self._digests[number].tobytes():
                raise self._damaged(number)
            self._checked[number] = True

    def _damaged(self, shard: int) -> DataError:
        """Set the folder aside, and make the error that says so."""
        advice = "it is deleted, and is made again from the text"
        try:
            set_aside(self._folder)
        except OSError:
            advice = "delete that folder, and it is made again from the text"
        return DataError(
            f"the encoded text in {self._folder} was damaged: the SHA-256 of shard {shard} of "
            f"{SYMBOLS} is not the one that was written",
            f"{advice}; then run the same command again (a run: with --resume)",
        )


def set_aside(folder: Path) -> None:
    """Take a damaged folder out of the way at once, then delete it. Raises: OSError."""
    aside = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder.parent))
    with contextlib.suppress(FileNotFoundError):  # another process has done so
        folder.rename(aside / folder.name)
    shutil.rmtree(aside, ignore_errors=True)


SymbolSource = Symbols | SymbolFile
"""Where symbols are read from: memory or a file."""
