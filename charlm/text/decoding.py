"""The bytes of a text decoded: by its byte order mark, by `data.encoding`, or as UTF-8.

What is no UTF-8 is written anew in it as it is read, so that pieces, digests and borders see one
encoding only. A text that is UTF-8 is passed on as it is.
"""

import codecs
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from charlm.config.schema import DataConfig
from charlm.errors import DataError
from charlm.text import compressed
from charlm.text.compressed import blocks
from charlm.text.documents import NO_TEXT, document_of
from charlm.text.guessing import excerpt, likeliest, wide_codec

UTF8 = "utf-8"
# Those of UTF-32 first: one begins like one of UTF-16.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, UTF8),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
LONGEST_MARK = 4
WITHOUT_MARK = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}
"""How a text without a byte order mark is read by codecs that expect one, on every machine."""
SET = "--set data.encoding={}"
"""How `charlm train` is given an encoding."""
SHOWN_BEFORE = 40
"""Bytes before the first that cannot be read, for the words around it."""
LINE_ENDS_SEEN = 1 << 16
"""Bytes by which line ends are recognised."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoding:
    """How the bytes of a text are read. mark: the size of its byte order mark.

    returns: whether a carriage return ends a line, as in files of the old Mac OS.
    """

    codec: str
    mark: int = 0
    returns: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether what is read is UTF-8 as it stands."""
        return self.codec == UTF8 and not self.returns


def decoding_of(name: Path | str, head: bytes, data: DataConfig, *, option: str = SET) -> Decoding:
    """Decide how a text is decoded, by its first bytes.

    option: how the user names an encoding, in advice.

    Raises: DataError: it is a document of another format, or UTF-16 or UTF-32 without a mark.
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
    """Return the codec for a text in an encoding without a byte order mark."""
    return WITHOUT_MARK.get(encoding, encoding)


def encoding_remark(name: Path | str, head: bytes, data: DataConfig, advice: str) -> str:
    """Return a remark where a text is read in `data.encoding` and would be UTF-8, too; "" else."""
    if not data.encoding or head.isascii() or marked(head)[0]:
        return ""
    try:
        text = codecs.getincrementaldecoder(UTF8)().decode(head)
    except UnicodeDecodeError:
        return ""
    if text.isascii():
        return ""  # all but a character that is cut off, or is none
    codec = with_order(data.encoding)
    read = codecs.getincrementaldecoder(codec)("replace").decode(head)
    return f'{name} is valid UTF-8, "{excerpt(text)}", read as {codec}: "{excerpt(read)}"; {advice}'


def marked(head: bytes) -> tuple[str, int]:
    """Return the codec that a byte order mark stands for, and the size of the mark; "" and 0 for
    none."""
    for mark, codec in BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return codec, len(mark)
    return "", 0


def utf8_blocks(
    file: Path, data: DataConfig, advanced: Callable[[int], object] | None = None
) -> tuple[Iterator[bytes], bool]:
    """Read a file, decompressed, in blocks of UTF-8; of unit "byte", as it is.

    Returns the blocks, and whether they are the bytes of the file itself or of what is compressed
    in it. advanced: as of `blocks`.

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
    name: Path | str, stream: Iterable[bytes], data: DataConfig, *, option: str
) -> Iterator[str]:
    """Decode a text that comes in blocks, without its byte order mark. Arguments: `decoding_of`.

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
    """Return the beginning of a stream, as long as a mark, and all of the stream."""
    rest, held = iter(stream), b""
    for block in rest:
        held += block
        if len(held) >= LONGEST_MARK:
            break
    return held, chain([held] if held else [], rest)


def _encoded(parts: Iterable[str]) -> Iterator[bytes]:
    """Encode a text in UTF-8, in blocks of the size in which a file is read: it is cut into the
    same pieces as the same text in UTF-8, and is the same to all that reads it."""
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
    """Yield the text in blocks, none of them empty. Raises: DataError, naming the byte."""
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
        raise not_in(decoding.codec, name, place, pending + block, error.start, option) from None


def not_in(
    codec: str, name: Path | str, place: int, content: bytes, at: int, option: str
) -> DataError:
    """Make the error for a text that a codec cannot read, with the two that most probably can.

    place, at: where the first byte stands that it cannot, in the file and in `content`, which is a
    part of it.
    """
    what = f"{name} is not {'UTF-8' if codec == UTF8 else codec} at byte {place}"
    if codec == UTF8 and not content[:at].isascii():
        return DataError(
            what,
            "the text before is UTF-8, so these bytes are damaged or of another encoding: mend or "
            "remove them, or learn bytes: --set data.unit=byte",
        )
    back = (at - SHOWN_BEFORE - place % 4) if at > SHOWN_BEFORE + 4 else (at - place) % 4
    guesses = likeliest(content[min(back, at) :], without=codec)
    if not guesses[0].is_text:
        return DataError(what, NO_TEXT)
    return DataError(what, _advice(guesses[0].codec, option), [*map(str, guesses)])


def _advice(codec: str, option: str) -> str:
    return f"if the first is right: {option.format(codec)}" if option else "save it as UTF-8 text"


def _refuse_wide(name: Path | str, head: bytes, option: str) -> None:
    """Refuse a text of two or four bytes a character whose bytes would pass as UTF-8: letters with
    control characters between them. Raises: DataError."""
    if not (codec := wide_codec(head)):
        return
    raise DataError(
        f"{name} is {codec[:6].upper()} without a byte order mark",
        _advice(codec, option),
        [*map(str, likeliest(head))],
    )


def _ends_lines_with_returns(head: bytes, codec: str, data: DataConfig) -> bool:
    """Return True where lines are told apart and carriage returns alone can be their ends."""
    if data.field or not (data.records == "lines" or "\n" in data.separator):
        return False
    text = codecs.getincrementaldecoder(codec)("ignore").decode(head[:LINE_ENDS_SEEN])
    text = text.removesuffix("\r")  # a line feed may be next
    return "\r" in text and "\n" not in text


def _refuse_document(file: Path, head: bytes) -> None:
    """Refuse a file whose text is in another format. Raises: DataError, with the way to text."""
    document = document_of(file, head)
    if document and not document.is_readable:
        raise DataError(f"{file} is {document.what}, not a text", document.way_from(file))
