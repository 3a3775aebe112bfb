"""Scoring of a file or a split by a model alone or with others, static or adapting."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from charlm.api.options import (
    PathLike,
    ScoreOptions,
    paths_of,
    refuse_contradictions,
    refuse_unknown,
)
from charlm.api.plain import PlainLoaded
from charlm.common.errors import UsageError
from charlm.config.loading import with_encoding
from charlm.evaluation.alternatives import Alternatives
from charlm.evaluation.plain import PlainNetwork, is_short
from charlm.evaluation.reading import (
    Floats,
    ReadCallback,
    Reader,
    ignore,
    log_distributions,
    surprisals,
)
from charlm.evaluation.scoring import (
    SILENT,
    Listeners,
    Segments,
    network,
    pieces_of,
    score_pieces,
    score_split,
    summary,
)
from charlm.evaluation.tally import Score, in_bits
from charlm.runs.own_text import corpus_of
from charlm.text.stretch import Stretch
from charlm.text.vocabulary import Symbols, Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

    from charlm.api.loaded import Loaded
    from charlm.evaluation.adaptation import Pace
    from charlm.evaluation.mixture import Mixture

MOST_SHOWN = 1_000_000
"""Most symbols on the pages of a scored text; the score includes all."""
SPLITS = {"val": "validation", "validation": "validation", "test": "test", "train": "train"}


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


def score(
    run: "Loaded | PlainLoaded | PathLike | None" = None,
    file: PathLike | None = None,
    *,
    split: str | None = None,
    listeners: Listeners = SILENT,
    **options: Unpack[ScoreOptions],
) -> Scoring:
    """Score a file, or a split of the run's own data.

    run: a loaded model (a plain one only without the options that `takes_torch`), a run, or None
        for the latest run. file: a text, compressed or not; "-" is
        stdin. split: "train", "val" or "test", instead of a file. options: see `ScoreOptions`.

    Raises: UsageError, DataError, CheckpointError.
    """
    refuse_unknown(options, ScoreOptions)
    if (file is None) == (split is None):
        raise UsageError("give a file or a split, one of them", 'charlm.score(run, split="val")')
    if split is not None and split not in SPLITS:
        raise UsageError(f"no split is called {split!r}", f"use one of {', '.join(SPLITS)}")
    refuse_contradictions(file, split, options)
    loaded = _opened(run, options)
    own, encoding = loaded.checkpoint.config.data, options.get("encoding")
    data = with_encoding(own, encoding, of_file=file is not None)
    vocabulary, window = loaded.vocabulary, options.get("window", 0)
    adapt = options.get("adapt", False)
    reading = _Reading.of(loaded, paths_of(options.get("with_", ())), adapt=adapt)
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


def _opened(
    run: "Loaded | PlainLoaded | PathLike | None", options: ScoreOptions
) -> "Loaded | PlainLoaded":
    """Return a loaded model as it is, or load a run. Raises: as `open_run`."""
    if isinstance(run, PlainLoaded):
        return run
    from charlm.api.loaded import open_run  # here: it imports torch

    return open_run(run, options)


@dataclass(frozen=True)
class _Reading:
    """The reader of the text, for surprisals and for distributions; the mixture, if it is one; the
    pace of each adapting model, by name."""

    read: Reader
    predict: Reader
    mixture: "Mixture | None" = None
    paces: "dict[str, Pace]" = field(default_factory=dict)

    @classmethod
    def of(
        cls, loaded: "Loaded | PlainLoaded", others: Sequence[PathLike], *, adapt: bool
    ) -> "_Reading":
        """Return the reader of a model alone or with others."""
        if isinstance(loaded, PlainLoaded):
            plain = PlainNetwork(loaded.model)
            return cls(
                _ByLength(loaded, partial(surprisals, plain), lambda reading: reading.read),
                _ByLength(
                    loaded, partial(log_distributions, plain), lambda reading: reading.predict
                ),
            )
        if others:
            mixed = loaded.mixed_with(others)
            readers = mixed.adaptive() if adapt else {}
            mixture = mixed.mixture(readers)
            paces = {name: one.pace for name, one in readers.items()}
            return cls(mixture, mixture.distributions, mixture, paces)
        if adapt:
            reader = loaded.adaptive()
            return cls(reader, reader.distributions, paces={"the model": reader.pace})
        from charlm.evaluation.surprisal import log_distributions as by_torch  # here: it is slow

        return cls(network(loaded.model), partial(by_torch, loaded.model))

    @property
    def powers(self) -> dict[str, float]:
        """The mean power of each model of the mixture, once the text is read."""
        return self.mixture.mean_powers() if self.mixture else {}


@dataclass
class _ByLength:
    """A `Reader` of a text by a plain model; by torch from where the text is too long for one
    thread. plain: reads short texts. by_torch: returns the other reader."""

    loaded: PlainLoaded
    plain: Reader
    by_torch: Callable[[_Reading], Reader]
    _symbols: int = 0

    def __call__(
        self, stretch: Stretch, *, window: int = 0, advanced: ReadCallback = ignore
    ) -> "Tensor | Floats":
        self._symbols += len(stretch)
        read = self.plain if is_short(self._symbols, self.loaded.model) else self._torch
        return read(stretch, window=window, advanced=advanced)

    @cached_property
    def _torch(self) -> Reader:
        from charlm.api.loaded import load  # here: it imports torch

        return self.by_torch(_Reading.of(load(self.loaded.checkpoint.folder), (), adapt=False))


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
