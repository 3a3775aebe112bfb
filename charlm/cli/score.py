"""`charlm score`."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from charlm import api
from charlm.cli.options import refuse_no_file
from charlm.config.codec import codec_named
from charlm.config.schema import DataConfig
from charlm.errors import UsageError
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
from charlm.runs.finding import is_run
from charlm.terminal import console
from charlm.terminal import score as terminal
from charlm.terminal.reading import ReadingProgress
from charlm.text.vocabulary import Symbols, Vocabulary

MOST_SHOWN = 1_000_000
"""Symbols on the pages of a scored text; what stands behind them counts, too."""
SPLITS = {"val": "validation", "validation": "validation", "test": "test", "train": "train"}


def score(
    run: Path | None,
    file: str | None,
    split: str | None,
    *,
    window: int,
    others: Sequence[str],
    adapt: bool,
    which: str,
    device: str,
    threads: int | None,
    per_character: bool,
    html: Path | None,
    encoding: str | None,
    as_json: bool,
) -> None:
    """Score a file or a split of the run's own data.

    html: write a page of it, too. encoding: of the file; None: as the run's text was.
    """
    console.show_log(quiet=True)
    if threads:
        torch.set_num_threads(threads)
    run, file = _told_apart(run, file, split)
    _refuse_to_overwrite(html, file)
    loaded = api.load(run, which=which, device=device)
    vocabulary = loaded.vocabulary
    reading = _reading(loaded, split, window, others, adapt=adapt)
    read, page = reading.read, None
    if html is not None:
        page = _Page(Alternatives(reading.predict, len(vocabulary), MOST_SHOWN))
        read = page.alternatives
    lines = [terminal.SurprisalLines(vocabulary)] if per_character else []
    each = partial(_tell_all, [*([page.keep] if page else []), *lines])
    data = _data(loaded, file, encoding)
    result = _scored(loaded, read, file, split, data, window, each)
    powers = reading.mixture.mean_powers() if reading.mixture else {}
    told = summary(result, window, powers, adapted=adapt)
    if html is not None and page is not None:
        page.write(vocabulary, list(powers) or [loaded.name], told, html)
    if per_character:
        terminal.left_out_lines(vocabulary, result)
        return
    if as_json:
        console.print_json(told)
    else:
        terminal.scored(result, vocabulary, window, powers, reading.paces)


def _told_apart(
    run: Path | None, file: str | None, split: str | None
) -> tuple[Path | None, str | None]:
    """Return the run and the text that were meant. Raises: UsageError where that is not clear."""
    if run is not None and file is None and split is None and not run.is_dir():
        run, file = None, str(run)  # a single argument that is no run is the text
    if run is not None and file is not None and run.is_file() and is_run(Path(file)):
        right = shlex.join(["charlm", "score", file, str(run)])
        raise UsageError(f"{run} is a text and {file} a run: the run comes first", right)
    if (file is None) == (split is None):
        raise UsageError("give a FILE or a --split, one of them", "charlm score RUN my.txt")
    return run, file


def _refuse_to_overwrite(html: Path | None, file: str | None) -> None:
    """Check that a page can be written, and not over the text. Raises: UsageError."""
    refuse_no_file(html)
    if html and file and html.exists() and Path(file).exists() and html.samefile(file):
        raise UsageError(f"{html} is the text that is scored", "name another page")


def _data(loaded: api.Loaded, file: str | None, encoding: str | None) -> DataConfig:
    """Return how the text is read. Raises: UsageError: an encoding of nothing, or none."""
    data = loaded.checkpoint.config.data
    if encoding is None:
        return data
    if file is None or loaded.vocabulary.unit == "byte":
        whose = "a FILE" if file is None else "a model of characters: this one reads bytes"
        raise UsageError(f"--encoding is for {whose}", "leave it out")
    try:
        return data.model_copy(update={"encoding": codec_named(encoding)})
    except ValueError as error:
        raise UsageError(
            f"--encoding: {error}", "give a codec of Python's, such as cp1251"
        ) from None


def _scored(
    loaded: api.Loaded,
    read: Reader,
    file: str | None,
    split: str | None,
    data: DataConfig,
    window: int,
    each: Segments,
) -> Score:
    """Score the file or the split, and show how far it is."""
    with terminal.ScoringProgress(size_of(file) if file else None) as progress:
        tell = progress.advanced
        if file is not None:
            pieces = pieces_of(file, loaded.vocabulary, data)
            return score_pieces(
                read, loaded.vocabulary, pieces, window, data=data, each=each, advanced=tell
            )
        assert split is not None
        with ReadingProgress():
            encoded = corpus_of(loaded.checkpoint, "score the file itself")
        return score_split(read, encoded, SPLITS[split], window, each=each, advanced=tell)


@dataclass(frozen=True)
class _Reading:
    """What reads the text, as surprisals or as whole distributions; the mixture, if it is one; the
    pace of each model that goes on learning, by name."""

    read: Reader
    predict: Predictor
    mixture: Mixture | None = None
    paces: dict[str, Pace] = field(default_factory=dict)


@dataclass
class _Page:
    """Collects what the page of a scored text shows: the first `MOST_SHOWN` symbols."""

    alternatives: Alternatives
    _symbols: list[Symbols] = field(default_factory=list)
    _nats: list[Tensor] = field(default_factory=list)

    def keep(self, symbols: Symbols, nats: Tensor) -> None:
        """Take a segment."""
        left = MOST_SHOWN - sum(map(len, self._symbols))
        self._symbols.append(symbols[:left])
        self._nats.append(nats[:left])

    def write(
        self, vocabulary: Vocabulary, names: Sequence[str], result: dict[str, Any], path: Path
    ) -> None:
        """Write the page of all that was taken, and pages that go on from it; name them."""
        from charlm.reports import surprisal as report  # here: jinja2 takes a moment

        symbols = np.concatenate(self._symbols)
        bits = in_bits(vocabulary, symbols, torch.cat(self._nats).numpy()).astype(np.float32)
        found = self.alternatives.found()
        text = report.ScoredText(vocabulary, names, result, symbols, bits, *found)
        written = report.write(text, path.absolute())
        console.print_status(f"page  {', '.join(map(str, written))}")


def _reading(
    loaded: api.Loaded, split: str | None, window: int, others: Sequence[str], *, adapt: bool
) -> _Reading:
    """Return what reads the text: the model alone or with others."""
    if adapt and window:
        raise UsageError("--adapt and --window go one at a time", "leave one of them out")
    if adapt and split == "train":
        raise UsageError(
            "--adapt chooses its pace on the train split, so it cannot be judged there",
            "score val, test or a file",
        )
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
    """Give a segment to all that listen."""
    for listener in listeners:
        listener(symbols, nats)
