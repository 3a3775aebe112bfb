"""`charlm score`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from charlm import api
from charlm.cli.arguments import ScoreArguments
from charlm.config.schema import DataConfig
from charlm.evaluation.adaptation import Pace
from charlm.evaluation.alternatives import Alternatives
from charlm.evaluation.mixture import Mixture
from charlm.evaluation.scoring import (
    Segments,
    corpus_of,
    network,
    pieces_of,
    score_pieces,
    score_split,
    size_of,
    summary,
)
from charlm.evaluation.surprisal import Predictor, Reader, log_distributions
from charlm.evaluation.tally import Score, in_bits
from charlm.terminal import console
from charlm.terminal import score as terminal
from charlm.terminal.progress import TaskProgress
from charlm.text.files.streams import is_stream
from charlm.text.vocabulary import Symbols, Vocabulary

MOST_SHOWN = 1_000_000
"""Most symbols on the pages of a scored text; the score includes all."""
SPLITS = {"val": "validation", "validation": "validation", "test": "test", "train": "train"}


def score(
    checkpoint: Path,
    given: ScoreArguments,
    data: DataConfig,
    *,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Score a file or a split of the run's own data.

    given: checked by `checks.score`. data: the configuration for reading a file.
    """
    if threads:
        torch.set_num_threads(threads)
    with TaskProgress():
        loaded = api.load(checkpoint, device=device, data=given.data or None)
    vocabulary = loaded.vocabulary
    reading = _reading(loaded, given.others, adapt=given.adapt)
    read, page = reading.read, None
    if given.html is not None:
        page = _Page(Alternatives(reading.predict, len(vocabulary), MOST_SHOWN))
        read = page.alternatives
    lines = [terminal.SurprisalLines(vocabulary)] if given.per_character else []
    each = partial(_tell_all, [*([page.keep] if page else []), *lines])
    result = _scored(loaded, read, given, data, each)
    powers = reading.mixture.mean_powers() if reading.mixture else {}
    told = summary(result, given.window, powers, adapted=given.adapt)
    if given.html is not None and page is not None:
        page.write(vocabulary, list(powers) or [loaded.name], told, given.html)
    if given.per_character:
        terminal.left_out_lines(vocabulary, result)
        return
    if as_json:
        console.print_json(told)
    else:
        terminal.scored(result, vocabulary, given.window, powers, reading.paces)
        if given.html is not None:
            console.print_page(given.html)
        elif given.file is not None and not is_stream(given.file):
            words = ["charlm", "score", loaded.name, given.file]
            console.print_next(*words, "--html", "page.html", after=" shows where it is surprised")
        else:
            console.print_next("charlm", "inspect", loaded.name, "--errors")


def _scored(
    loaded: api.Loaded, read: Reader, given: ScoreArguments, data: DataConfig, each: Segments
) -> Score:
    """Score the file or the split, and show the progress."""
    file, split, window = given.file, given.split, given.window
    with terminal.ScoringProgress(size_of(file) if file else None) as progress:
        tell = progress.advanced
        if file is not None:
            pieces = pieces_of(file, loaded.vocabulary, data)
            return score_pieces(
                read, loaded.vocabulary, pieces, window, data=data, each=each, advanced=tell
            )
        assert split is not None
        with TaskProgress():
            encoded = corpus_of(loaded.checkpoint)
        return score_split(read, encoded, SPLITS[split], window, each=each, advanced=tell)


@dataclass(frozen=True)
class _Reading:
    """The reader of the text, for surprisals and for distributions; the mixture, if it is one; the
    pace of each adapting model, by name."""

    read: Reader
    predict: Predictor
    mixture: Mixture | None = None
    paces: dict[str, Pace] = field(default_factory=dict)


@dataclass
class _Page:
    """The data of the page of a scored text: the first `MOST_SHOWN` symbols."""

    alternatives: Alternatives
    _symbols: list[Symbols] = field(default_factory=list)
    _nats: list[Tensor] = field(default_factory=list)

    def keep(self, symbols: Symbols, nats: Tensor) -> None:
        """Add a segment."""
        left = MOST_SHOWN - sum(map(len, self._symbols))
        self._symbols.append(symbols[:left])
        self._nats.append(nats[:left])

    def write(
        self, vocabulary: Vocabulary, names: Sequence[str], result: dict[str, Any], path: Path
    ) -> None:
        """Write the page of the added segments, and continuation pages; print their names."""
        from charlm.reports import surprisal as report  # here: jinja2 takes a moment

        symbols = np.concatenate(self._symbols)
        bits = in_bits(vocabulary, symbols, torch.cat(self._nats).numpy()).astype(np.float32)
        found = self.alternatives.found()
        text = report.ScoredText(vocabulary, names, result, symbols, bits, *found)
        written = report.write(text, path.absolute())
        console.print_status(f"page  {', '.join(map(str, written))}")


def _reading(loaded: api.Loaded, others: Sequence[str], *, adapt: bool) -> _Reading:
    """Return the reader of the text: the model alone or a mixture."""
    if adapt:
        console.print_status("choosing how fast to adapt, on the run's train split")
    if others:
        mixed = loaded.mixed_with(others)
        readers = mixed.adaptive() if adapt else {}
        mixture = mixed.mixture(readers)
        paces = {name: one.pace for name, one in readers.items()}
        return _Reading(mixture, mixture.distributions, mixture, paces)
    if adapt:
        reader = loaded.adaptive()
        return _Reading(reader, reader.distributions, paces={"the model": reader.pace})
    return _Reading(network(loaded.model), partial(log_distributions, loaded.model))


def _tell_all(listeners: Sequence[Segments], symbols: Symbols, nats: Tensor) -> None:
    """Call all listeners with a segment."""
    for listener in listeners:
        listener(symbols, nats)
