"""A text, or a split of a run's own data, against a trained model."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from charlm.backends.step import TorchComputation
from charlm.errors import DataError
from charlm.evaluation.surprisal import Score, evaluate, score_of, surprisals
from charlm.models.recurrent import CharModel
from charlm.runs.checkpoint import Checkpoint
from charlm.text import corpus
from charlm.text.vocabulary import Symbols, Vocabulary


@dataclass(frozen=True)
class Scored:
    """A scored text.

    Shapes: symbols and surprisals [N]. Units: surprisals in nats.
    """

    score: Score
    symbols: Symbols
    surprisals: Tensor
    window: int
    vocabulary: Vocabulary

    def summary(self) -> dict[str, Any]:
        """Return what `score --json` prints."""
        return {
            "characters": self.score.characters,
            "bytes": self.score.bytes,
            "loss": self.score.loss,
            "bits_per_character": self.score.bits_per_character,
            "bits_per_byte": self.score.bits_per_byte,
            "perplexity": self.score.perplexity,
            "unknown_characters": self.score.unknown,
            "protocol": "window" if self.window else "stateful",
            "adapted": False,
            "mixture": {},
        }


def score_text(
    model: CharModel, vocabulary: Vocabulary, content: str | bytes, window: int = 0
) -> Scored:
    """Score a text, in float32; bytes are for byte models. Raises: DataError for an empty one."""
    symbols = vocabulary.encode(content)
    if not len(symbols):
        raise DataError("the text is empty", "give a text with at least one known character")
    unknown = vocabulary.unknown_in(content) if isinstance(content, str) else {}
    given = (
        content.encode("utf-8", "surrogateescape")
        if vocabulary.unit == "byte" and isinstance(content, str)
        else content
    )
    characters, size = vocabulary.size_of(given)
    each = surprisals(TorchComputation(model), symbols, 0, len(symbols), window=window)
    score = score_of(
        each, vocabulary, characters=characters, bytes=size, unknown=sum(unknown.values())
    )
    return Scored(score, symbols, each, window, vocabulary)


def score_split(saved: Checkpoint, model: CharModel, name: str, window: int = 0) -> Scored:
    """Score a split of the run's own data, read anew from where the run found it.

    name: "train", "validation" or "test".

    Raises: DataError where the text has changed or the split is empty.
    """
    data = saved.config.data
    encoded = corpus.prepare(data, corpus.survey(data))
    if encoded.fingerprint != saved.state["corpus"]:
        raise DataError("the run's text has changed since it was trained", "score the file itself")
    split = encoded.splits[name]
    if not len(split):
        raise DataError(f"the {name} split of this run is empty", "score another split, or a file")
    computation, vocabulary = TorchComputation(model), encoded.vocabulary
    each, score = evaluate(
        computation, encoded.symbols, vocabulary=vocabulary, split=split, window=window
    )
    return Scored(
        score,
        np.asarray(encoded.symbols[split.stop - len(each) : split.stop]),
        each,
        window,
        vocabulary,
    )


def content_of(file: str, vocabulary: Vocabulary) -> str | bytes:
    """Read the text of a file, or of stdin for "-". Raises: DataError."""
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
