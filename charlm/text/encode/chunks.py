"""Chunks of a text: units of work for a process, each decoded and cut independently.

A chunk's borders depend only on the text before it, so that a text that grows keeps its chunks.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

from charlm.common.errors import DataError
from charlm.config.schema import DataConfig
from charlm.text.files import measuring, objects
from charlm.text.files.compressed import cannot_read, suffix_inside
from charlm.text.files.decoding import SET, UTF8, not_in, utf8_blocks
from charlm.text.files.measuring import BYTE_ORDER_MARK, SAFE, Piece, forget
from charlm.text.splits import TextStats


@dataclass(frozen=True)
class Chunk:
    """Pieces of files that are read together.

    number: counted from 0. first: number of characters of the text before it. contents: the bytes
    of each piece, None if it can be read from its file alone; see `with_contents`.
    """

    number: int
    first: int
    pieces: tuple[tuple[Path, Piece], ...]
    contents: tuple[bytes | None, ...] = ()

    @property
    def characters(self) -> int:
        """Number of characters."""
        return sum(piece.characters for _, piece in self.pieces)

    @property
    def size(self) -> int:
        """Number of bytes."""
        return sum(piece.size for _, piece in self.pieces)

    @property
    def digest(self) -> str:
        """Digest of its pieces, in hexadecimal."""
        hasher = hashlib.sha256()
        for _, piece in self.pieces:
            hasher.update(f"{piece.start == 0} {piece.digest}\n".encode("ascii"))
        return hasher.hexdigest()


def plan(text: TextStats, data: DataConfig) -> list[Chunk]:
    """Group the pieces of all files into chunks."""
    groups: list[list[tuple[Path, Piece]]] = []
    room = 0
    for file in text.files:
        for piece in text.measured[file].pieces:
            if not groups or (piece.size > room and _may_begin(file, piece, data)):
                groups.append([])
                room = measuring.PIECE
            groups[-1].append((file, piece))
            room -= piece.size
    sizes = [sum(piece.characters for _, piece in group) for group in groups]
    begins = [0, *accumulate(sizes)]
    return [Chunk(n, begins[n], tuple(group)) for n, group in enumerate(groups)]


def _may_begin(file: Path, piece: Piece, data: DataConfig) -> bool:
    """Return True if a piece can be normalised without the text before it."""
    is_plain = data.unit == "byte" or (data.unit == "char" and data.normalize == "none")
    if piece.start or is_plain or data.records != "none" or data.field:
        return True
    head = next(utf8_blocks(file, data)[0], b"").removeprefix(BYTE_ORDER_MARK)
    return SAFE.match(head) is not None


def with_contents(chunks: Iterable[Chunk], data: DataConfig) -> Iterator[Chunk]:
    """Yield the chunks, with the contents of pieces that cannot be read alone: files that are
    compressed or not UTF-8 are read here, from their start."""
    file: Path | None = None
    stream: Iterator[bytes] = iter(())
    rest, at = b"", 0
    for chunk in chunks:
        contents: list[bytes | None] = []
        for path, piece in chunk.pieces:
            if piece.in_place:
                contents.append(None)
                continue
            if path != file or piece.start < at:
                file, stream, rest, at = path, utf8_blocks(path, data)[0], b"", 0
            held = [rest]
            reached = at + len(rest)
            while reached < piece.stop + piece.last and (block := next(stream, b"")):
                reached += len(block)
                if reached <= piece.start:
                    held, at = [], reached
                else:
                    held.append(block)
            joined = b"".join(held)
            contents.append(joined[piece.start - at : piece.stop - at + piece.last])
            rest, at = joined[piece.stop - at :], piece.stop
        yield Chunk(chunk.number, chunk.first, chunk.pieces, tuple(contents))


def read_piece(file: Path, piece: Piece) -> bytes:
    """Read a piece of a file. The last piece is read with one byte more than it has: if there is
    one, the file has grown, and the digest differs."""
    try:
        with file.open("rb") as stream:
            stream.seek(piece.start)
            return stream.read(piece.stop - piece.start + piece.last)
    except OSError as error:
        raise cannot_read(file, error) from None


def texts_of(chunk: Chunk, data: DataConfig) -> Iterator[tuple[Path, Sequence[str] | str | bytes]]:
    """Yield each piece's file and content: bytes, a text, or the texts of its objects.

    Raises: DataError if it has changed since it was measured, or is not UTF-8.
    """
    for (file, piece), in_memory in zip(chunk.pieces, chunk.contents, strict=True):
        if data.field and suffix_inside(file) == objects.PARQUET:
            texts = objects.from_row_group(file, piece.start, data)
            if objects.digest(texts) != piece.digest:
                raise has_changed(file, data)
            yield file, texts
            continue
        content = read_piece(file, piece) if in_memory is None else in_memory
        if hashlib.sha256(content).hexdigest() != piece.digest:
            raise has_changed(file, data)
        if data.field:
            yield file, objects.from_json_lines(file, content, data, piece.start)
        elif data.unit == "byte":
            yield file, content
        else:
            yield file, _decoded(file, piece, content)


def _decoded(file: Path, piece: Piece, content: bytes) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        place = piece.start + error.start
        raise not_in(UTF8, file, place, content, error.start, SET) from None
    return text.removeprefix("\ufeff") if piece.start == 0 else text


def running_text(chunk: Chunk, data: DataConfig) -> str | bytes:
    """Return a chunk as one text, with a line for each object. Raises: DataError."""
    parts = [
        content if isinstance(content, str | bytes) else objects.as_lines(content)
        for _, content in texts_of(chunk, data)
    ]
    if data.unit == "byte":
        return b"".join(part if isinstance(part, bytes) else part.encode() for part in parts)
    return "".join(str(part) for part in parts)


def has_changed(file: Path, data: DataConfig) -> DataError:
    """Make the error for a file that has changed since it was measured; forget the measurement."""
    forget(file, data)
    return DataError(
        f"{file} has changed while it was being read",
        "run the same command again, once nothing writes to it",
    )


def parts_of(text: str | bytes, cuts: Sequence[int]) -> Iterator[str | bytes]:
    """Cut a text at positions in characters.

    Bytes may begin within a character: position 0 is then the first byte that begins one, and -1
    the first byte.
    """
    places = [0, *(_offset(text, cut) for cut in cuts), len(text)]
    return (text[begin:end] for begin, end in pairwise(places))


def _offset(piece: str | bytes, characters: int) -> int:
    """Return the offset at which the first `characters` characters of a piece end."""
    if characters < 0:
        return 0
    if isinstance(piece, str) or piece.isascii():
        return min(len(piece), characters)
    begins = measuring.starts(piece).nonzero()[0]
    return int(begins[characters]) if characters < begins.size else len(piece)
