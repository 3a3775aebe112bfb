"""Remarks on texts that may not be read as the user intended."""

import codecs
from collections.abc import Iterator, Sequence
from pathlib import Path

from charlm.config.schema import DataConfig
from charlm.text.files.compressed import head_of, suffix_inside
from charlm.text.files.decoding import UTF8, encoding_remark, marked, with_order
from charlm.text.files.documents import document_of
from charlm.text.files.separators import Separator

FILES = 100
"""Number of files of a text that are inspected, from the first."""
HEAD = 1 << 16
OPENED = {UTF8: "utf-8-sig", "utf-16-le": "utf-16", "utf-16-be": "utf-16"}
"""Codecs that remove a byte order mark."""
WITHOUT_RETURNS = (
    'python -c "t = open({!r}, encoding={!r}).read(); '
    "open('text.txt', 'w', encoding='utf-8', newline='\\n').write(t)\""
)
"""Command that converts line ends: a file opened as text has "\\n" only."""


def remarks(files: Sequence[Path], data: DataConfig) -> list[str]:
    """List the remarks on a text, each for the first file that it applies to.

    Raises: DataError if a file cannot be read.
    """
    if data.unit == "byte" or data.field:
        return []
    first: dict[str, str] = {}
    for file in files[:FILES]:
        head = head_of(file, HEAD)
        for kind, remark in _remarks(file, head, data):
            first.setdefault(kind, remark)
    return [*first.values()]


def _remarks(file: Path, head: bytes, data: DataConfig) -> Iterator[tuple[str, str]]:
    """Yield remarks on the beginning of a file, each after its kind."""
    if suffix_inside(file) == ".jsonl":
        yield (
            "objects",
            (f"{file} is read as it is; --set data.field=NAME reads a field of each line"),
        )
    if (document := document_of(file, head)) and document.is_readable:
        way = document.way_from(file)
        yield document.what, f"{file} is {document.what}, read as it is; {way}"
    if remark := encoding_remark(file, head, data, "to have the first, leave data.encoding out"):
        yield "encoding", remark
    codec, mark = marked(head)
    codec = codec or with_order(data.encoding) or UTF8
    try:
        text = codecs.getincrementaldecoder(codec)().decode(head[mark:])
    except UnicodeDecodeError:
        return  # reading the text ends in an error, which names the byte
    if count := text.count("\0"):
        yield (
            "NUL",
            (
                f"{file} has NUL bytes, {count:,} in its first {len(text):,} characters, read as "
                "characters; is it a text?"
            ),
        )
    if remark := _on_line_ends(file, text, data, OPENED.get(codec, codec) if mark else codec):
        yield "line ends", remark


def _on_line_ends(file: Path, text: str, data: DataConfig, codec: str) -> str:
    """Return a remark on line ends with carriage returns, which the model would learn; "" if none.

    codec: with which Python opens the file.
    """
    anew = f"rewrite the file: {WITHOUT_RETURNS.format(str(file), codec)}"
    separator = Separator(data.separator)
    if data.records == "lines" or separator.is_flexible:
        return ""
    if "\r\n" in text:
        if data.records == "separator" and data.separator.startswith("\n"):
            return (
                f'{file} has the line ends of Windows: a "\\r" stays at the end of each record; '
                "records of lines are cut without: --set data.records=lines"
            )
        return (
            f'{file} has the line ends of Windows: the "\\r" of each is a symbol to learn; to save '
            f"it, {anew}"
        )
    if "\r" in text and "\n" not in text:
        return (
            f'{file} has the line ends of the old Mac and is learned with "\\r" in place of "\\n"; '
            f"to have the usual, {anew}"
        )
    return ""
