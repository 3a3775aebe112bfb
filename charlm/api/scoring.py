"""Scoring of a file or a split by a model alone or with others, static or adapting."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np

from charlm.api.documents import DocumentScores, PairedScores, score_documents, score_pairs
from charlm.api.options import (
    SPLITS,
    PathLike,
    ScoreOptions,
    paths_of,
    refuse_texts,
    refuse_unknown,
)
from charlm.api.plain import PlainLoaded
from charlm.api.readers import reading_of
from charlm.config.loading import with_encoding
from charlm.evaluation.alternatives import Alternatives
from charlm.evaluation.reading import Floats
from charlm.evaluation.scoring import (
    SILENT,
    Listeners,
    Segments,
    pieces_of,
    score_pieces,
    score_split,
    summary,
)
from charlm.evaluation.tally import Score, in_bits
from charlm.runs.own_text import corpus_of
from charlm.text.vocabulary import Symbols, Vocabulary

if TYPE_CHECKING:
    from charlm.api.loaded import Loaded
    from charlm.evaluation.adaptation import Pace

MOST_SHOWN = 1_000_000
"""Most symbols on the pages of a scored text; the score includes all."""


@dataclass(frozen=True)
class Scoring:
    """A score with its protocol. powers: the mean power of each model of a mixture. paces: of each
    adapting model. pages: those written, if any."""

    score: Score
    window: int
    adapted: bool
    powers: dict[str, float]
    paces: "dict[str, Pace]"
    pages: list[Path] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """Return the output of `score --json`."""
        return summary(self.score, self.window, self.powers, adapted=self.adapted)


@overload
def score(  # type: ignore[overload-overlap] # a string is a sequence of strings, too
    run: "Loaded | PlainLoaded | PathLike | None" = None,
    file: PathLike | None = None,
    *,
    split: str | None = None,
    against: None = None,
    listeners: Listeners = SILENT,
    **options: Unpack[ScoreOptions],
) -> Scoring: ...


@overload
def score(
    run: "Loaded | PlainLoaded | PathLike | None",
    file: Sequence[PathLike],
    *,
    split: None = None,
    against: None = None,
    listeners: Listeners = SILENT,
    **options: Unpack[ScoreOptions],
) -> DocumentScores: ...


@overload
def score(
    run: "Loaded | PlainLoaded | PathLike | None",
    file: PathLike | Sequence[PathLike],
    *,
    split: None = None,
    against: "Loaded | PlainLoaded | PathLike",
    listeners: Listeners = SILENT,
    **options: Unpack[ScoreOptions],
) -> PairedScores: ...


def score(
    run: "Loaded | PlainLoaded | PathLike | None" = None,
    file: PathLike | Sequence[PathLike] | None = None,
    *,
    split: str | None = None,
    against: "Loaded | PlainLoaded | PathLike | None" = None,
    listeners: Listeners = SILENT,
    **options: Unpack[ScoreOptions],
) -> Scoring | DocumentScores | PairedScores:
    """Score a file, or a split of the run's own data; or several documents, by one run or by two.

    run: a loaded model (a plain one only without the options that `takes_torch`), a run, or None
        for the latest run. file: a text, compressed or not; "-" is stdin. A list is of documents,
        each read from the zero state; a folder in it stands for its texts. split: "train", "val" or
        "test", instead of a file. against: another run, to score the same documents. options: see
        `ScoreOptions`.

    Returns: a `Scoring`; `DocumentScores` for a list; `PairedScores` if `against` is not None.

    Raises: UsageError, DataError, CheckpointError.
    """
    refuse_unknown(options, ScoreOptions)
    several = against is not None or not (file is None or isinstance(file, str | os.PathLike))
    refuse_texts(file, split, options, several=several)
    loaded = opened(run, options)
    if several:
        assert file is not None
        if against is None:
            return score_documents(loaded, paths_of(file), options, listeners)
        return score_pairs((loaded, opened(against, options)), paths_of(file), options, listeners)
    assert file is None or isinstance(file, str | os.PathLike)
    return _score_one(loaded, file, split, listeners, options)


def _score_one(
    loaded: "Loaded | PlainLoaded",
    file: PathLike | None,
    split: str | None,
    listeners: Listeners,
    options: ScoreOptions,
) -> Scoring:
    """Score a file or a split. See `score`."""
    vocabulary, window = loaded.vocabulary, options.get("window", 0)
    own, encoding = loaded.checkpoint.config.data, options.get("encoding")
    data = with_encoding(own, encoding, of_file=file is not None)
    adapt = options.get("adapt", False)
    reading = reading_of(loaded, paths_of(options.get("with_", ())), adapt=adapt)()
    read, page = reading.read, None
    if (html := options.get("html")) is not None:
        page = _Page(Alternatives(reading.predict, len(vocabulary), MOST_SHOWN))
        read = page.alternatives
        listeners = replace(listeners, each=partial(_call_all, [page.keep, listeners.each]))
    if file is not None:
        pieces = pieces_of(str(file), vocabulary, data)
        result = score_pieces(read, vocabulary, pieces, window, data=data, listeners=listeners)
    else:
        assert split is not None
        encoded = corpus_of(loaded.checkpoint)
        result = score_split(read, encoded, SPLITS[split], window, listeners)
    scoring = Scoring(result, window, adapt, reading.powers, reading.paces)
    if page is not None and html is not None:
        names = list(scoring.powers) or [loaded.checkpoint.name]
        scoring.pages.extend(page.write(vocabulary, names, scoring.report(), Path(html)))
    return scoring


def takes_torch(options: ScoreOptions) -> bool:
    """Return True for options that need more of a model than its weights."""
    return bool(options.get("with_") or options.get("adapt"))


def opened(
    run: "Loaded | PlainLoaded | PathLike | None", options: ScoreOptions
) -> "Loaded | PlainLoaded":
    """Return a loaded model as it is, or load a run. Raises: as `open_run`."""
    if isinstance(run, PlainLoaded):
        return run
    from charlm.api.loaded import open_run  # here: it imports torch

    return open_run(run, options)


@dataclass
class _Page:
    """The data of the page of a scored text: the first `MOST_SHOWN` symbols."""

    alternatives: Alternatives
    _symbols: list[Symbols] = field(default_factory=list)
    _nats: list[Floats] = field(default_factory=list)

    def keep(self, symbols: Symbols, nats: Floats) -> None:
        """Add a segment."""
        left = MOST_SHOWN - sum(map(len, self._symbols))
        self._symbols.append(symbols[:left])
        self._nats.append(nats[:left])

    def write(
        self, vocabulary: Vocabulary, names: Sequence[str], result: dict[str, Any], path: Path
    ) -> list[Path]:
        """Write the page of the added segments, and continuation pages; return their paths."""
        from charlm.reports import surprisal as report  # here: jinja2 takes a moment

        symbols = np.concatenate(self._symbols)
        bits = in_bits(vocabulary, symbols, np.concatenate(self._nats)).astype(np.float32)
        found = self.alternatives.found()
        text = report.ScoredText(vocabulary, names, result, symbols, bits, *found)
        return report.write(text, path.absolute())


def _call_all(listeners: Sequence[Segments], symbols: Symbols, nats: Floats) -> None:
    """Call all listeners with a segment."""
    for listener in listeners:
        listener(symbols, nats)
