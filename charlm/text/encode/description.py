"""Metadata of an encoded text: JSON files, each preceded by its SHA-256."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from charlm.common.files import read_regular, sync_folder, with_digest, without_digest, write_synced
from charlm.text.encode.building import Built
from charlm.text.encode.encoding import Counted
from charlm.text.shards import Shard
from charlm.text.splits import Split
from charlm.text.vocabulary import Vocabulary

DESCRIBED, FOR_GROWTH = "corpus.json", "chunks.json"

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Described:
    """The content of corpus.json, which each start reads: `shards` lack their symbols."""

    fingerprint: str
    vocabulary: dict[str, Any]
    splits: dict[str, Split]
    shards: list[Shard]


@dataclass(frozen=True)
class _ForGrowth:
    """The content of chunks.json, which is read if a text has grown. symbols: of each shard."""

    symbols: list[str]
    counted: list[Counted]


_described, _for_growth = TypeAdapter(Described), TypeAdapter(_ForGrowth)


def write(folder: Path, fingerprint: str, built: Built) -> None:
    """Write chunks.json, if there are several chunks, then corpus.json, the last file of an encoded
    text."""
    if len(built.shards) > 1:
        symbols = [shard.symbols for shard in built.shards]
        _write(folder / FOR_GROWTH, _ForGrowth(symbols, built.counted))
    shards = [shard.with_symbols("") for shard in built.shards]
    vocabulary = built.vocabulary.to_json()
    _write(folder / DESCRIBED, Described(fingerprint, vocabulary, built.splits, shards))
    sync_folder(folder)


def read(folder: Path) -> Described:
    """Read corpus.json. Raises: OSError, ValueError if it is damaged."""
    return _read(folder / DESCRIBED, _described)


def read_all(folder: Path) -> Built:
    """Read both files of a text of several chunks.

    Raises: OSError, ValueError, CheckpointError if one is damaged.
    """
    described, more = read(folder), _read(folder / FOR_GROWTH, _for_growth)
    pairs = zip(described.shards, more.symbols, strict=True)
    shards = [shard.with_symbols(symbols) for shard, symbols in pairs]
    vocabulary = Vocabulary.from_json(described.vocabulary)
    return Built(vocabulary, described.splits, shards, more.counted)


def _write(path: Path, value: Described | _ForGrowth) -> None:
    content = json.dumps(asdict(value), ensure_ascii=False).encode("utf-8")
    write_synced(path, with_digest(content), private=True)


def _read(path: Path, kind: TypeAdapter[Kind]) -> Kind:
    try:
        return kind.validate_json(without_digest(read_regular(path)))
    except ValueError as error:  # pydantic's errors are subclasses
        raise ValueError(f"{path.name} cannot be read: {error}") from None
