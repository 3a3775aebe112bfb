"""Shards: files with the encoded symbols of one chunk, each with the digests of its parts."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from charlm.common.files import (
    PRIVATE_FILE,
    private_file,
    read_regular,
    with_digest,
    without_digest,
)
from charlm.text.vocabulary import Symbols

PART = 1 << 18
"""Bytes that share a digest: a first window of 64 lanes checks at most 16 MB."""
DIGEST_SIZE = hashlib.sha256().digest_size

Three = tuple[int, int, int]
Totals = tuple[int, int, int, int]


@dataclass(frozen=True)
class Shard:
    """The symbols of one chunk: those of its train split first, then validation, then test.

    source: digest of everything that determines it. digest: SHA-256 of its parts' digests. size:
    in bytes. counts: number of symbols of each split. totals: `TextSize.totals` of each split.
    unknown: for each split, counts of the symbols that the vocabulary lacks. symbols: its distinct
    symbols, as text. empty: number of empty records, which are left out.
    """

    source: str
    digest: str
    size: int
    counts: Three
    totals: tuple[Totals, Totals, Totals]
    unknown: tuple[dict[str, int], dict[str, int], dict[str, int]]
    symbols: str
    empty: int

    def with_symbols(self, symbols: str) -> "Shard":
        """Return a copy with other `symbols`. (corpus.json, which each start reads, has none.)"""
        return replace(self, symbols=symbols)


_shard = TypeAdapter(Shard)


def symbols_path(folder: Path, number: int) -> Path:
    """Return the path of a shard's symbols."""
    return folder / f"symbols-{number:05}.bin"


def digests_path(folder: Path, number: int) -> Path:
    """Return the path of the digests of a shard's parts."""
    return folder / f"symbols-{number:05}.sha256"


def write_shard(folder: Path, number: int, parts: Sequence[Symbols]) -> tuple[str, int]:
    """Write a shard and the digests of its parts.

    Returns: the digest of the digests, and the shard's size in bytes.
    """
    digests, hasher, room, size = bytearray(), hashlib.sha256(), PART, 0
    path = symbols_path(folder, number)
    path.unlink(missing_ok=True)  # it may be a link to the shard of another text
    with private_file(path) as out:
        for symbols in parts:
            left = memoryview(symbols.view("u1").data)
            out.write(left)
            size += len(left)
            while left:
                part, left = left[:room], left[room:]
                hasher.update(part)
                room -= len(part)
                if not room:
                    digests += hasher.digest()
                    hasher, room = hashlib.sha256(), PART
        if room < PART:
            digests += hasher.digest()
    digests_file = digests_path(folder, number)
    digests_file.unlink(missing_ok=True)
    with private_file(digests_file) as out:
        out.write(digests)
    return hashlib.sha256(digests).hexdigest(), size


def sync(folder: Path, number: int) -> None:
    """Flush a shard to disk."""
    for path in (symbols_path(folder, number), digests_path(folder, number)):
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def is_intact(folder: Path, number: int, shard: Shard) -> bool:
    """Return True if a shard and its digests are intact, reading all of it."""
    try:
        digests = read_regular(digests_path(folder, number))
        if hashlib.sha256(digests).hexdigest() != shard.digest:
            return False
        size, computed = 0, bytearray()
        with symbols_path(folder, number).open("rb") as file:
            while part := file.read(PART):
                size += len(part)
                computed += hashlib.sha256(part).digest()
    except OSError:
        return False
    return size == shard.size and computed == digests


def link(folder: Path, number: int, into: Path, as_number: int) -> bool:
    """Link a shard of another text, without a copy; return False if that is impossible."""
    try:
        for path in (symbols_path, digests_path):
            target = path(into, as_number)
            target.unlink(missing_ok=True)
            os.link(path(folder, number), target)
            target.chmod(PRIVATE_FILE)  # earlier versions let others read it
    except OSError:
        return False
    return True


def save_result(path: Path, value: Any) -> None:
    """Save the result of a chunk, so that the next start continues from it if this one is killed.

    A digest in the file shows damage by a crash. The unfinished text's folder is marked as in use.
    """
    path.unlink(missing_ok=True)
    with private_file(path) as out:
        out.write(with_digest(json.dumps(value, ensure_ascii=False).encode("utf-8")))
    os.utime(path.parent.parent)  # abandoned folders are removed by age


def read_result(path: Path) -> Any:
    """Return a saved result; None if it is missing or damaged."""
    try:
        return json.loads(without_digest(read_regular(path)))
    except (OSError, ValueError):
        return None


def as_json(shard: Shard) -> Any:
    return asdict(shard)


def from_json(value: Any) -> Shard | None:
    """Parse a shard; return None if `value` is not one."""
    try:
        return _shard.validate_python(value)
    except ValidationError:
        return None
