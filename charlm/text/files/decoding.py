"""Decoding of a text's bytes: by its byte order mark, by `data.encoding`, or as UTF-8.

Text in another encoding is converted to UTF-8 as it is read, so that pieces, digests and borders
see one encoding only. UTF-8 is passed on unchanged.
"""

import codecs
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from charlm.common.errors import DataError
from charlm.text.files import compressed
from charlm.text.files.compressed import blocks
from charlm.text.files.documents import NO_TEXT, document_of
from charlm.text.files.guessing import excerpt, likeliest, wide_codec

if TYPE_CHECKING:
    from charlm.config.schema import DataConfig

UTF8 = "utf-8"
# UTF-32 first: one of its marks begins with a mark of UTF-16.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, UTF8),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
LONGEST_MARK = 4
WITHOUT_MARK = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}
"""Byte order assumed, on every machine, where a codec expects a mark and there is none."""
SET = "--set data.encoding={}"
"""Option of `charlm train` that sets an encoding."""
SHOWN_BEFORE = 40
"""Bytes of context shown before the first byte that cannot be decoded."""
LINE_ENDS_SEEN = 1 << 16
"""Number of bytes in which the kind of line end is recognised."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoding:
    """An encoding of a text. mark: size of its byte order mark in bytes.

    returns: True if a carriage return ends a line, as in files of the old Mac OS.
    """

    codec: str
    mark: int = 0
    returns: bool = False

    @property
    def is_plain(self) -> bool:
        """True if the bytes are UTF-8 that needs no conversion."""
        return self.codec == UTF8 and not self.returns


def decoding_of(
    name: Path | str, head: bytes, data: "DataConfig", *, option: str = SET
) -> Decoding:
    """Choose the decoding of a text by its first bytes.

    option: the command's option for an encoding, for the advice in errors.

    Raises: DataError for a document of another format, and for UTF-16 or UTF-32 without a mark.
    """
    codec, mark = marked(head)
    if not codec:
        _refuse_document(Path(name), head)
        codec = with_order(data.encoding)
    if not codec:
        _refuse_wide(name, head, option)
    codec = codec or UTF8
    return Decoding(codec, mark, _ends_lines_with_returns(head, codec, data))


def with_order(encoding: str) -> str:
    """Return the codec of an encoding for a text without a byte order mark."""
    return WITHOUT_MARK.get(encoding, encoding)


def encoding_remark(name: Path | str, head: bytes, data: "DataConfig", advice: str) -> str:
    """Return a remark if a text read in `data.encoding` is valid UTF-8, too; "" otherwise."""
    if not data.encoding or head.isascii() or marked(head)[0]:
        return ""
    try:
        text = codecs.getincrementaldecoder(UTF8)().decode(head)
    except UnicodeDecodeError:
        return ""
    if text.isascii():
        return ""  # nothing but ASCII and a truncated or invalid character
    codec = with_order(data.encoding)
    read = codecs.getincrementaldecoder(codec)("replace").decode(head)
    return f'{name} is valid UTF-8, "{excerpt(text)}", read as {codec}: "{excerpt(read)}"; {advice}'


def marked(head: bytes) -> tuple[str, int]:
    """Return the codec that a byte order mark stands for and the size of the mark; "" and 0 if
    there is none."""
    for mark, codec in BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return codec, len(mark)
    return "", 0


def utf8_blocks(
    file: Path, data: "DataConfig", advanced: Callable[[int], object] | None = None
) -> tuple[Iterator[bytes], bool]:
    """Read a file, decompressed, in blocks of UTF-8; for unit "byte", without decoding.

    advanced: as for `blocks`.

    Returns: the blocks, and True if they are the (decompressed) bytes, not converted to UTF-8.

    Raises: DataError, also while the blocks are read.
    """
    stream = blocks(file, advanced)
    if data.unit == "byte":
        return stream, True
    head, stream = _peeked(stream)
    decoding = decoding_of(file, head, data)
    if decoding.is_plain:
        return stream, True
    return _encoded(_texts(file, stream, decoding, SET)), False


def texts(
    name: Path | str, stream: Iterable[bytes], data: "DataConfig", *, option: str
) -> Iterator[str]:
    """Decode a stream of blocks, without the byte order mark. Arguments: as for `decoding_of`.

    Raises: DataError.
    """
    head, stream = _peeked(stream)
    decoding = decoding_of(name, head, data, option=option)
    if remark := encoding_remark(name, head, data, f"to have the first: {option.format(UTF8)}"):
        log.warning(remark)
    return _texts(name, stream, decoding, option)


def decode(name: Path | str, content: bytes) -> str:
    """Decode a short text, as UTF-8 or by its byte order mark, without the mark.

    Raises: DataError.
    """
    codec, mark = marked(content)
    if not codec:
        _refuse_wide(name, content, "")
    return "".join(_texts(name, [content], Decoding(codec or UTF8, mark), ""))


def _peeked(stream: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes of a stream, at least a mark's length, and the whole stream."""
    rest, held = iter(stream), b""
    for block in rest:
        held += block
        if len(held) >= LONGEST_MARK:
            break
    return held, chain([held] if held else [], rest)


def _encoded(parts: Iterable[str]) -> Iterator[bytes]:
    """Encode a text in UTF-8, in blocks of the size in which files are read, so that it is cut into
    the same pieces as a UTF-8 file of the same text."""
    held = bytearray()
    for part in parts:
        held += part.encode()
        while len(held) >= compressed.BLOCK:
            yield bytes(held[: compressed.BLOCK])
            del held[: compressed.BLOCK]
    if held:
        yield bytes(held)


def _texts(
    name: Path | str, stream: Iterable[bytes], decoding: Decoding, option: str
) -> Iterator[str]:
    """Yield the decoded text in blocks that are not empty. Raises: DataError, naming the byte."""
    decoder = codecs.getincrementaldecoder(decoding.codec)()
    position, mark, pending, block = decoding.mark, decoding.mark, b"", b""
    try:
        for whole in stream:
            block, mark = whole[mark:], 0
            pending = decoder.getstate()[0]
            text = decoder.decode(block)
            position += len(block)
            if text:
                yield text.replace("\r", "\n") if decoding.returns else text
        pending, block = decoder.getstate()[0], b""
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        place = position - len(pending) + error.start
        if not block and decoding.codec.startswith(("utf-16", "utf-32")):
            cut = f"copy it again if it was cut short, or remove its bytes from {place} on"
            other = "" if decoding.mark else "; or it is of another encoding"
            raise DataError(
                f"{name} is not {decoding.codec} at byte {place}: it ends within a character",
                cut + other,
            ) from None
        raise not_in(decoding.codec, name, place, pending + block, error.start, option) from None


def not_in(
    codec: str, name: Path | str, place: int, content: bytes, at: int, option: str
) -> DataError:
    """Make the error for a text that a codec cannot decode; it suggests the two likeliest codecs.

    place, at: position of the first undecodable byte, in the file and in its part `content`.
    """
    what = f"{name} is not {'UTF-8' if codec == UTF8 else codec} at byte {place}"
    if codec == UTF8 and not content[:at].isascii():
        return DataError(
            what,
            "the text before is UTF-8, so these bytes are damaged or of another encoding: mend or "
            "remove them, or train on bytes: --set data.unit=byte",
        )
    back = (at - SHOWN_BEFORE - place % 4) if at > SHOWN_BEFORE + 4 else (at - place) % 4
    guesses = likeliest(content[min(back, at) :], without=codec)
    if not guesses[0].is_text:
        return DataError(what, NO_TEXT)
    return DataError(what, _advice(guesses[0].codec, option), [*map(str, guesses)])


def _advice(codec: str, option: str) -> str:
    return f"if the first is right: {option.format(codec)}" if option else "save it as UTF-8 text"


def _refuse_wide(name: Path | str, head: bytes, option: str) -> None:
    """Refuse UTF-16 or UTF-32 without a mark whose bytes would pass as UTF-8: ASCII letters with
    control characters between them. Raises: DataError."""
    if not (codec := wide_codec(head)):
        return
    raise DataError(
        f"{name} is {codec[:6].upper()} without a byte order mark",
        _advice(codec, option),
        [*map(str, likeliest(head))],
    )


def _ends_lines_with_returns(head: bytes, codec: str, data: "DataConfig") -> bool:
    """Return True if lines matter to `data` and carriage returns alone end them."""
    if data.field or not (data.records == "lines" or "\n" in data.separator):
        return False
    text = codecs.getincrementaldecoder(codec)("ignore").decode(head[:LINE_ENDS_SEEN])
    text = text.removesuffix("\r")  # a line feed may be next
    return "\r" in text and "\n" not in text


def _refuse_document(file: Path, head: bytes) -> None:
    """Refuse a document of another format. Raises: DataError, with a way to extract its text."""
    document = document_of(file, head)
    if document and not document.is_readable:
        raise DataError(f"{file} is {document.what}, not a text", document.way_from(file))
