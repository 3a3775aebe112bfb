"""A text, or a split of a run's own data, against a trained model."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from charlm.errors import DataError
from charlm.evaluation import surprisal
from charlm.evaluation.surprisal import Score
from charlm.models.recurrent import CharModel
from charlm.runs.checkpoint import Checkpoint
from charlm.text import corpus, reading
from charlm.text.vocabulary import Symbols, Vocabulary


@dataclass(frozen=True)
class Scored:
    """A scored text.

    Shapes: symbols and surprisals [N]. Units: surprisals in nats.
    """

    score: Score
    symbols: Symbols
    surprisals: Tensor
    unknown_characters: int
    window: int

    def summary(self) -> dict[str, Any]:
        """What `score --json` prints."""
        return {
            "characters": self.score.characters,
            "bytes": self.score.bytes,
            "loss": self.score.loss,
            "bits_per_character": self.score.bits_per_character,
            "bits_per_byte": self.score.bits_per_byte,
            "perplexity": self.score.perplexity,
            "unknown_characters": self.unknown_characters,
            "protocol": "window" if self.window else "stateful",
        }


def text(model: CharModel, vocabulary: Vocabulary, content: str | bytes, window: int) -> Scored:
    """Score a text; bytes are for byte models. Raises: DataError for an empty one."""
    symbols = vocabulary.encode(content)
    if not len(symbols):
        raise DataError("the text is empty", "give a text with at least one known character")
    unknown = vocabulary.unknown_in(content) if isinstance(content, str) else {}
    encoded = content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
    characters = reading.characters_in(encoded)
    each = surprisal.surprisals(model, symbols, 0, len(symbols), window=window)
    return Scored(
        Score(surprisal.total(each), len(symbols), characters, len(encoded)),
        symbols,
        each,
        sum(unknown.values()),
        window,
    )


def split(saved: Checkpoint, model: CharModel, name: str, window: int) -> Scored:
    """Score a split of the run's own data, read anew from where the run found it.

    Raises: DataError where the text has changed or the split is empty.
    """
    data = saved.config.data
    encoded = corpus.prepare(data, corpus.survey(data))
    if encoded.fingerprint != saved.state["corpus"]:
        raise DataError("the run's text has changed since it was trained", "score the file itself")
    part = encoded.splits[name]
    if not len(part):
        raise DataError(f"the {name} split of this run is empty", "score another split, or a file")
    skipped = 1 if part.start == 0 else 0  # the text's first symbol follows nothing
    each = surprisal.surprisals(
        model, encoded.symbols, part.start + skipped, part.stop, window=window
    )
    return Scored(
        Score(
            surprisal.total(each),
            len(part) - skipped,
            part.characters - skipped,
            part.bytes - skipped,
        ),
        encoded.symbols[part.start + skipped : part.stop],
        each,
        sum(part.unknown.values()),
        window,
    )


def content_of(file: str, vocabulary: Vocabulary) -> str | bytes:
    """The text of a file, or of stdin for "-". Raises: DataError."""
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}", "check the path") from None
    if vocabulary.unit == "byte":
        return raw
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} is not UTF-8 at byte {error.start}", "convert it (iconv -t UTF-8)"
        ) from None
