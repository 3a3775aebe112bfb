"""Scoring of a text, or of a split of a run's data.

The text is read as a stream, so that memory does not grow with its length. Importing this does not
import torch.
"""

import math
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from charlm.common.errors import DataError
from charlm.config.schema import DataConfig
from charlm.evaluation.reading import WARM_UP, Floats, ReadCallback, Reader, ignore
from charlm.evaluation.tally import Score, Tally
from charlm.models.plain import no_prediction
from charlm.text.corpus import Corpus
from charlm.text.files import compressed
from charlm.text.files.compressed import BLOCK, cannot_read
from charlm.text.files.decoding import texts
from charlm.text.files.objects import JSON_LINES, PARQUET, as_lines, texts_in
from charlm.text.reading import normalizable
from charlm.text.records import in_stream
from charlm.text.sizes import TextSize
from charlm.text.stretch import Stretch, whole_windows
from charlm.text.vocabulary import Symbols, Vocabulary, as_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from charlm.models.recurrent import CharModel

RUNNING_TEXT = DataConfig()
SEGMENT = 1 << 22
"""Symbols scored at a time, each segment after a warm-up on the text before it."""

ENCODING = "--encoding {}"
"""Option of `charlm score` that sets an encoding."""

Given = str | bytes | list[str]
"""A piece of a text, or a list of texts, each of which is a record or a line."""

Segments = Callable[[Symbols, Floats], object]
"""Callback for each segment's symbols and their surprisals in nats, [N] each."""


@dataclass(frozen=True)
class Listeners:
    """Callbacks during the scoring. each: for every segment. advanced: progress callback."""

    each: Segments = lambda *_: None
    advanced: ReadCallback = ignore


SILENT = Listeners()


@dataclass(frozen=True)
class Scored:
    """A scored text. Shapes: symbols and surprisals [N]. Units: surprisals in nats."""

    score: Score
    symbols: Symbols
    surprisals: "Tensor"


def summary(
    score: Score, window: int, mixture: Mapping[str, float], *, adapted: bool
) -> dict[str, Any]:
    """Return the output of `score --json`. mixture: the power of each of its models, by name."""
    return {
        "characters": score.characters,
        "bytes": score.bytes,
        "loss": score.loss,
        "bits_per_character": score.bits_per_character,
        "bits_per_byte": score.bits_per_byte,
        "perplexity": score.perplexity,
        "unknown_characters": score.unknown,
        "protocol": "window" if window else "stateful",
        "adapted": adapted,
        "mixture": dict(mixture),
    }


def score_text(
    model: "CharModel",
    vocabulary: Vocabulary,
    content: str | bytes,
    window: int = 0,
    data: DataConfig = RUNNING_TEXT,
) -> Scored:
    """Score a text, in float32; bytes are for byte models. Arguments: `score_pieces`.

    Raises: DataError for an empty text.
    """
    import torch  # here: it takes a second

    segments: list[tuple[Symbols, Floats]] = []
    listeners = Listeners(lambda *segment: segments.append(segment))
    read = network(model)
    score = score_pieces(read, vocabulary, [content], window, data=data, listeners=listeners)
    symbols, each = zip(*segments, strict=True)
    return Scored(score, np.concatenate(symbols), torch.from_numpy(np.concatenate(each)))


def network(model: "CharModel") -> Reader:
    """Return a reader of surprisals by a model, in float32, with the kernels if they are built."""
    from charlm.backends.choice import computation_of  # here: they import torch
    from charlm.evaluation.surprisal import surprisals

    return partial(surprisals, computation_of(model))


def score_pieces(
    read: Reader,
    vocabulary: Vocabulary,
    pieces: Iterable[Given],
    window: int = 0,
    *,
    data: DataConfig = RUNNING_TEXT,
    listeners: Listeners = SILENT,
) -> Score:
    """Score a text that comes in pieces.

    read: a reader of surprisals. window: 0 reads statefully; see `surprisals`. data: the division
        into records, if the vocabulary has an end for them.

    Raises: DataError for an empty text.
    """
    tally = Tally(vocabulary)
    before = np.array(vocabulary.before, vocabulary.dtype)
    for symbols in _segments(_encoded(vocabulary, pieces, data, tally), window):
        text = np.concatenate([before, symbols])
        stretch = Stretch(text, len(before), len(text))
        nats = np.asarray(read(stretch, window=window, advanced=listeners.advanced))
        tally.add_surprisals(nats)
        listeners.each(symbols, nats)
        before = text[-WARM_UP - 1 :]
    if not tally.symbols:
        raise DataError("the text is empty", "give a text with at least one known character")
    return _finite(tally.score())


def score_split(
    read: Reader,
    encoded: Corpus,
    name: str,
    window: int = 0,
    listeners: Listeners = SILENT,
) -> Score:
    """Score a split of a run's own data.

    name: "train", "validation" or "test". Other arguments: as for `score_pieces`.

    Raises: DataError if the split is empty.
    """
    stretch, tally = encoded.stretch(name), Tally(encoded.vocabulary)
    if not len(stretch):
        raise DataError(f"the {name} split of this run is empty", "score another split, or a file")
    for piece in stretch.with_context().pieces(SEGMENT, window):
        nats = np.asarray(read(piece, window=window, advanced=listeners.advanced))
        tally.add_surprisals(nats)
        listeners.each(piece.read(), nats)
    tally.add_split(encoded, name)
    return _finite(tally.score())


def _finite(score: Score) -> Score:
    """Return a score. Raises: CheckpointError if it is not finite."""
    if not math.isfinite(score.nats):
        raise no_prediction()
    return score


def pieces_of(
    file: str, vocabulary: Vocabulary, data: DataConfig = RUNNING_TEXT
) -> Iterator[Given]:
    """Read a file, compressed or not, or stdin for "-", piece by piece.

    data: if it names a field, a file of objects is read as the texts in that field; any other file
        and stdin are text, in the encoding of the byte order mark or else of `data`.

    Raises: DataError.
    """
    if data.field and compressed.suffix_inside(Path(file)) in (JSON_LINES, PARQUET):
        yield from texts_in(Path(file), data)
        return
    try:
        if vocabulary.unit == "byte":
            yield from _blocks(file)
        else:
            yield from texts(file, _blocks(file), data, option=ENCODING)
    except OSError as error:
        raise cannot_read(file, error) from None


def size_of(file: str) -> int | None:
    """Return a file's size in bytes; None for streams and compressed files."""
    if compressed.is_compressed(Path(file)) or compressed.suffix_inside(Path(file)) == PARQUET:
        return None
    try:
        status = Path(file).stat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _blocks(file: str) -> Iterator[bytes]:
    if file != "-":
        yield from compressed.blocks(Path(file))
        return
    while block := sys.stdin.buffer.read(BLOCK):
        yield block


def _encoded(
    vocabulary: Vocabulary, pieces: Iterable[Given], data: DataConfig, tally: Tally
) -> Iterator[Symbols]:
    """Encode pieces of text; after the last one, add their size to the tally."""
    size, unknown, is_byte = TextSize(vocabulary), 0, vocabulary.unit == "byte"
    if vocabulary.end is not None:
        encodable = (as_bytes(one) if is_byte and isinstance(one, str) else one for one in pieces)
        for records in filter(None, in_stream(encodable, data)):
            size.add_records(records, counts_ends=data.records != "files")
            known = (vocabulary.unknown_in(one) for one in records if isinstance(one, str))
            unknown += sum(sum(counts.values()) for counts in known)
            yield vocabulary.encode_records(records)
        pieces = ()
    running = (as_lines(one) if isinstance(one, list) else one for one in pieces)
    for piece in normalizable((as_bytes(one) if is_byte else one for one in running), vocabulary):
        size.add(piece)
        unknown += sum(vocabulary.unknown_in(piece).values()) if isinstance(piece, str) else 0
        yield vocabulary.encode(piece)
    tally.add_text(size.characters, size.bytes, unknown)


def _segments(parts: Iterable[Symbols], window: int) -> Iterator[Symbols]:
    """Join and cut symbols into segments of whole windows; the first has one symbol more."""
    most = whole_windows(SEGMENT, window)
    room, held, count = most + 1, [], 0
    for part in parts:
        held.append(part)
        count += len(part)
        while count >= room:
            joined = np.concatenate(held)
            yield joined[:room]
            held, count, room = [joined[room:]], len(joined) - room, most
    if count:
        yield np.concatenate(held)
