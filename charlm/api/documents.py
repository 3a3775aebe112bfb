"""Scores of several documents by one run or by two: the mean over documents with its interval."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlm.api.options import PathLike, ScoreOptions, paths_of
from charlm.api.plain import PlainLoaded
from charlm.api.readers import reading_of
from charlm.common.errors import DataError, UsageError
from charlm.comparison.statistics import ENOUGH, Interval, difference, interval
from charlm.config.loading import with_encoding
from charlm.evaluation.plain import is_short
from charlm.evaluation.scoring import Listeners, pieces_of, score_pieces, size_of, summary
from charlm.evaluation.tally import Score
from charlm.text.files.decoding import UTF8
from charlm.text.files.sources import find_documents
from charlm.text.files.streams import is_stream
from charlm.text.files.walking import TextFiles

if TYPE_CHECKING:
    from charlm.api.loaded import Loaded
    from charlm.config.schema import DataConfig
    from charlm.evaluation.adaptation import Pace

LEVEL = 0.95
"""The confidence level of `statistics.interval`."""
OF_ALL = ("protocol", "adapted")
"""Keys of `summary` that are the same for every document."""


@dataclass(frozen=True)
class ScoredDocument:
    """A document with its score. powers: the mean power of each model of a mixture in it."""

    path: str
    score: Score
    powers: dict[str, float]


@dataclass(frozen=True)
class DocumentScores:
    """The scores of several documents by one run, each read from the zero state.

    paces: of each adapting model. files: the documents, and the files left out of folders.
    """

    run: str
    documents: list[ScoredDocument]
    window: int
    adapted: bool
    paces: "dict[str, Pace]"
    files: TextFiles

    @property
    def bits_per_character(self) -> list[float]:
        """Bits per character of each document."""
        return [one.score.bits_per_character for one in self.documents]

    @property
    def mean(self) -> Interval:
        """The mean of the documents' bits per character, every document with the same weight, and
        its 95 % interval, cut off at zero bits."""
        found = interval(self.bits_per_character)
        return found if found.is_open else replace(found, low=max(0.0, found.low))

    @property
    def pooled(self) -> Score:
        """The score of all documents together, every character with the same weight."""
        return Score.total([one.score for one in self.documents])

    @property
    def worst(self) -> ScoredDocument:
        """The document with the most bits per character."""
        return max(self.documents, key=lambda one: (one.score.bits_per_character, one.path))

    @property
    def powers(self) -> dict[str, float]:
        """The mean power of each model of a mixture, over all symbols."""
        symbols = math.fsum(one.score.symbols for one in self.documents)
        return {
            name: math.fsum(one.powers[name] * one.score.symbols for one in self.documents)
            / symbols
            for name in self.documents[0].powers
        }

    def report(self) -> dict[str, Any]:
        """Return the output of `score --json`: the keys of one text, of all documents together, and
        those of the documents."""
        left_out = [{"path": str(one.path), "reason": one.reason} for one in self.files.left_out]
        return {**self.figures(), "left_out": left_out}

    def figures(self) -> dict[str, Any]:
        """Return `report` without the files left out, which two runs share."""
        pooled = summary(self.pooled, self.window, self.powers, adapted=self.adapted)
        return {
            **pooled,
            "documents": [self._row(one) for one in self.documents],
            **_estimate(self.mean, len(self.documents)),
            "worst": {
                "path": self.worst.path,
                "bits_per_character": self.worst.score.bits_per_character,
            },
        }

    def _row(self, one: ScoredDocument) -> dict[str, Any]:
        found = summary(one.score, self.window, one.powers, adapted=self.adapted)
        return {
            "path": one.path,
            **{key: value for key, value in found.items() if key not in OF_ALL},
        }


@dataclass(frozen=True)
class PairedScores:
    """The scores of the same documents by two runs.

    Differences are of `scores` minus `against`, in bits per character: below zero, the first run
    has fewer.
    """

    scores: DocumentScores
    against: DocumentScores

    @property
    def differences(self) -> list[float]:
        """The difference on each document."""
        bits = self.scores.bits_per_character, self.against.bits_per_character
        return [one - other for one, other in zip(*bits, strict=True)]

    @property
    def mean(self) -> Interval:
        """The mean difference, every document with the same weight, and its 95 % interval."""
        return difference(self.scores.bits_per_character, self.against.bits_per_character)

    @property
    def pooled(self) -> float:
        """The difference over all documents together, every character with the same weight."""
        return self.scores.pooled.bits_per_character - self.against.pooled.bits_per_character

    @property
    def better(self) -> tuple[int, int]:
        """The number of documents on which the first run has fewer bits, and the second one."""
        found = self.differences
        return sum(one < 0 for one in found), sum(one > 0 for one in found)

    def report(self) -> dict[str, Any]:
        """Return the output of `score --against --json`."""
        first, second = self.better
        compared = {
            **_estimate(self.mean, len(self.differences)),
            "pooled": self.pooled,
            "values": self.differences,
            "better": {"run": first, "against": second},
        }
        against = {"run": self.against.run, **self.against.figures(), "difference": compared}
        return {**self.scores.report(), "against": against}


def method(count: int) -> str:
    """Describe the interval of a number of documents, or the reason for which there is none."""
    if count < ENOUGH:
        documents = "1 document is" if count == 1 else f"{count} documents are"
        return f"no interval: {documents} too few, it takes {ENOUGH}"
    return f"Student's t over {count} documents"


def _estimate(mean: Interval, count: int) -> dict[str, Any]:
    """Return a mean with its interval as JSON; None for an interval of too few documents."""
    bounds = {"low": mean.low, "high": mean.high, "level": LEVEL}
    return {
        "mean": mean.mean,
        "interval": None if mean.is_open else bounds,
        "interval_method": method(count),
    }


def score_documents(
    loaded: "Loaded | PlainLoaded",
    paths: Sequence[PathLike],
    options: ScoreOptions,
    listeners: Listeners,
) -> DocumentScores:
    """Score documents by one run, each from the zero state and with the trained weights.

    Raises: as `find_documents`; DataError, with the path; UsageError, CheckpointError.
    """
    data = data_of(loaded, options)
    found = find_documents(paths_of(paths), data)
    files, window = [str(file) for file in found.files], options.get("window", 0)
    if isinstance(loaded, PlainLoaded):
        loaded = _by_length(loaded, sum(size_of(file) or 0 for file in files))
    adapt, vocabulary = options.get("adapt", False), loaded.vocabulary
    begin = reading_of(loaded, paths_of(options.get("with_", ())), adapt=adapt)
    documents, paces = [], {}
    for file in files:
        reading = begin()
        with _naming(file):
            pieces = pieces_of(file, vocabulary, data)
            score = score_pieces(
                reading.read, vocabulary, pieces, window, data=data, listeners=listeners
            )
        documents.append(ScoredDocument(file, score, reading.powers))
        paces = reading.paces
    return DocumentScores(loaded.checkpoint.name, documents, window, adapt, paces, found)


def score_pairs(
    pair: "tuple[Loaded | PlainLoaded, Loaded | PlainLoaded]",
    paths: Sequence[PathLike],
    options: ScoreOptions,
    listeners: Listeners,
) -> PairedScores:
    """Score the same documents by two runs. The first one chooses the files of folders.

    Raises: as `score_documents`; UsageError (the same run twice, another encoding, a stream),
        DataError (the runs read different texts).
    """
    folders = [one.checkpoint.folder for one in pair]
    refuse_pair(folders, [data_of(one, options) for one in pair], paths_of(paths))
    first = score_documents(pair[0], paths, options, listeners)
    second = score_documents(pair[1], first.files.files, options, listeners)
    for one, other in zip(first.documents, second.documents, strict=True):
        sizes = one.score.characters, other.score.characters
        if sizes[0] != sizes[1]:
            raise DataError(
                f"{one.path} has {sizes[0]:,} characters as {first.run} reads it and "
                f"{sizes[1]:,} as {second.run} does",
                "give both runs the same text: in UTF-8 and NFC, without a byte order mark, with a "
                "line feed at its end",
            )
    if first.run == second.run:  # two checkpoints of one run
        steps = [one.checkpoint.step for one in pair]
        first, second = (
            replace(scores, run=f"{scores.run} at step {step}")
            for scores, step in zip((first, second), steps, strict=True)
        )
    return PairedScores(first, second)


def refuse_pair(
    folders: Sequence[Path], datas: "Sequence[DataConfig]", paths: Sequence[str]
) -> None:
    """Check that two runs can be compared on documents.

    folders: of the checkpoints. datas: the runs' configurations for reading the documents.

    Raises: UsageError.
    """
    first, second = folders
    if first == second:
        raise UsageError(
            f"{first} is scored, and --against names it again", "name another run or checkpoint"
        )
    for path in filter(is_stream, paths):
        raise UsageError(
            f"{path} can be read only once, and two runs read it",
            "save it to a file, and name that",
        )
    encodings = {data.encoding or UTF8 for data in datas if data.unit != "byte"}
    if len(encodings) > 1:
        raise UsageError(
            f"one run reads texts in {' and the other in '.join(sorted(encodings))}",
            "say which it is for both: --encoding CODEC",
        )


def data_of(loaded: "Loaded | PlainLoaded", options: ScoreOptions) -> "DataConfig":
    """Return a run's configuration for reading a file. Raises: as `with_encoding`."""
    return with_encoding(loaded.checkpoint.config.data, options.get("encoding"), of_file=True)


def _by_length(loaded: PlainLoaded, symbols: int) -> "Loaded | PlainLoaded":
    """Return a plain model for a number of symbols in all, loaded by torch if they are too many for
    one thread. (The choice for each document alone would make many of them slow, and one by the
    sum of those before it would depend on their order.)"""
    if is_short(symbols, loaded.model):
        return loaded
    from charlm.api.loaded import load  # here: it imports torch

    return load(loaded.checkpoint.folder)


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Add the path to the error of a document whose message does not have it."""
    try:
        yield
    except DataError as error:
        if path in error.what:
            raise
        raise DataError(f"{path}: {error.what}", error.advice, error.details) from None
