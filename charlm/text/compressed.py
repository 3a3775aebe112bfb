"""Files read in a stream of blocks, whether they are compressed or not."""

import gzip
import lzma
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from charlm.errors import DataError

BLOCK = 1 << 20
"""Bytes read at a time: enough for full speed, few enough to stay in the processor's cache."""
SUFFIXES = {".gz", ".xz", ".zst"}
ZSTD_INPUT = 1 << 10
"""Bytes of a `.zst` file taken at a time: each four may stand for 128 KB."""


def is_compressed(file: Path) -> bool:
    """Tell by a file's name whether it is compressed."""
    return file.suffix.lower() in SUFFIXES


def suffix_inside(file: Path) -> str:
    """Return the suffix of a file's name without that of its compression, in lower case."""
    inside = file.with_suffix("") if is_compressed(file) else file
    return inside.suffix.lower()


def blocks(file: Path, advanced: Callable[[int], object] | None = None) -> Iterator[bytes]:
    """Yield what is in a file, block by block.

    advanced: is told how many more bytes of the file itself, compressed or not, are done.

    Raises: DataError where it cannot be read, is a device, or is compressed and damaged.
    """
    try:
        with file.open("rb") as raw:
            mode = file.stat().st_mode
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                raise OSError(0, "it is a device, and may never end")
            done = 0
            for block in _inside(file, raw):
                yield block
                if advanced:
                    advanced(raw.tell() - done)
                    done = raw.tell()
            if advanced and raw.tell() > done:
                advanced(raw.tell() - done)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise _damaged(file, error) from None
    except OSError as error:
        raise cannot_read(file, error) from None


def _inside(file: Path, raw: Any) -> Iterator[bytes]:
    """Yield the blocks of an open file."""
    suffix = file.suffix.lower()
    if suffix == ".zst":
        yield from _zstd(file, raw)
        return
    stream = gzip.open(raw) if suffix == ".gz" else lzma.open(raw) if suffix == ".xz" else raw  # noqa: SIM115
    while block := stream.read(BLOCK):
        yield block


def _zstd(file: Path, raw: Any) -> Iterator[bytes]:
    """Decompress frame by frame: only so is a last one noticed that is cut short."""
    new, failure = _zstd_decompressor(file)
    decompressor: Any = None
    held = bytearray()
    try:
        while given := raw.read(ZSTD_INPUT):
            while given:
                decompressor = decompressor or new()
                held += decompressor.decompress(given)
                given = b""
                if decompressor.eof:
                    given, decompressor = decompressor.unused_data, None
            while len(held) >= BLOCK:
                yield bytes(held[:BLOCK])
                del held[:BLOCK]
    except failure as error:
        raise _damaged(file, error) from None
    if decompressor is not None:
        raise EOFError("it ends in the middle")
    if held:
        yield bytes(held)


def _zstd_decompressor(file: Path) -> tuple[Callable[[], Any], type[Exception]]:
    """Return what makes a decompressor, and its error."""
    name = "compression.zstd" if sys.version_info >= (3, 14) else "zstandard"
    try:
        module = import_module(name)
    except ImportError:
        raise DataError(
            f"{file} is compressed with zstd, and there is no module {name}",
            "pip install charlm[zstd], or decompress it: zstd -d",
        ) from None
    new = module.ZstdDecompressor
    return (lambda: new().decompressobj()) if name == "zstandard" else new, module.ZstdError


def _damaged(file: Path, error: Exception) -> DataError:
    said = "it is cut short" if isinstance(error, EOFError) else str(error)
    return DataError(
        f"{file} cannot be decompressed: {said}",
        "get it again, or check it with the program that compressed it",
    )


def cannot_read(path: Path | str, error: OSError) -> DataError:
    """Make the error for a file or folder that cannot be read."""
    return DataError(f"cannot read {path}: {error.strerror}", "check the path and its permissions")
