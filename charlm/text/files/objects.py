"""Texts in a field of objects: `.jsonl`, one JSON object per line, and `.parquet`."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlm.common.errors import DataError
from charlm.text.files.compressed import suffix_inside
from charlm.text.files.decoding import utf8_blocks

if TYPE_CHECKING:
    from charlm.config.schema import DataConfig

JSON_LINES, PARQUET = ".jsonl", ".parquet"


def refuse_others(file: Path) -> None:
    """Refuse a file without objects. Raises: DataError."""
    if suffix_inside(file) not in (JSON_LINES, PARQUET):
        raise DataError(
            f"{file} is neither .jsonl nor .parquet, but data.field names a field",
            "name such files only, or leave data.field empty",
        )


def texts_in(file: Path, data: "DataConfig") -> Iterator[list[str]]:
    """Yield the texts of a file's objects, in batches. Raises: DataError."""
    refuse_others(file)
    if suffix_inside(file) == PARQUET:
        for number in range(row_groups(file)):
            yield from_row_group(file, number, data)
        return
    held, start = [b""], 0
    for block in utf8_blocks(file, data)[0]:
        border = block.rfind(b"\n") + 1
        held.append(block[:border] if border else block)
        if border:
            content = b"".join(held)
            yield from_json_lines(file, content, data, start)
            held, start = [block[border:]], start + len(content)
    yield from_json_lines(file, b"".join(held), data, start)


def as_lines(texts: Iterable[str]) -> str:
    """Join texts into one, with a line end after each."""
    return "".join(f"{text}\n" for text in texts)


def from_json_lines(file: Path, content: bytes, data: "DataConfig", start: int) -> list[str]:
    """Return the texts of complete lines that begin at byte `start` of a file.

    Blank lines are skipped; unpaired surrogates, which are not characters, are replaced.

    Raises: DataError, naming the line, for one that is not a JSON object with that field as text.
    """
    texts = []
    for number, line in enumerate(content.split(b"\n")):
        if not line.strip():
            continue
        try:
            text = json.loads(line)[data.field]
        except (ValueError, RecursionError):
            raise _wrong(file, data, number, start, "is no JSON") from None
        except (KeyError, TypeError, IndexError):
            raise _wrong(file, data, number, start, f"has no field {data.field!r}") from None
        if not isinstance(text, str):
            raise _wrong(file, data, number, start, f"has no text in its field {data.field!r}")
        texts.append(_whole(text))
    return texts


def _wrong(file: Path, data: "DataConfig", number: int, start: int, what: str) -> DataError:
    """Make the error for the line that is `number` lines after byte `start`."""
    left = start
    for block in utf8_blocks(file, data)[0]:
        number += block[:left].count(b"\n")
        left = max(0, left - len(block))
        if not left:
            break
    return DataError(
        f"line {number + 1:,} of {file} {what}", "mend that line, or name another data.field"
    )


def _whole(text: str) -> str:
    """Replace unpaired surrogates, which JSON can hold and UTF-8 cannot."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def row_groups(file: Path) -> int:
    """Count the row groups of a Parquet file. Raises: DataError."""
    count: int = _parquet(file).num_row_groups
    return count


def from_row_group(file: Path, number: int, data: "DataConfig") -> list[str]:
    """Return the texts of a row group. Raises: DataError if the field is missing or not text."""
    opened = _parquet(file)
    if data.field not in opened.schema_arrow.names:
        raise DataError(
            f"{file} has no field {data.field!r}, but {', '.join(opened.schema_arrow.names[:8])}",
            "name another data.field",
        )
    try:
        texts = opened.read_row_group(number, columns=[data.field]).column(0).to_pylist()
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}", "get it again") from None
    for at, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(
                f"row {at + 1:,} of row group {number + 1} of {file} has no text in its field "
                f"{data.field!r}",
                "leave such rows out, or name another data.field",
            )
    return [_whole(text) for text in texts]


def digest(texts: Iterable[str]) -> str:
    """Return the SHA-256 of texts, in hexadecimal."""
    hasher = hashlib.sha256()
    for text in texts:
        content = text.encode("utf-8")
        hasher.update(b"%d:" % len(content) + content)
    return hasher.hexdigest()


def _parquet(file: Path) -> Any:
    """Open a Parquet file. Raises: DataError."""
    try:
        from pyarrow import parquet  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ModuleNotFoundError:
        raise DataError(
            f"{file} is Parquet, and the package pyarrow is not installed",
            "pip install charlm[parquet]",
        ) from None
    try:
        return parquet.ParquetFile(file)
    except (OSError, ValueError) as error:  # pyarrow's errors are subclasses
        raise DataError(f"{file} is not Parquet, or damaged: {error}", "get it again") from None
