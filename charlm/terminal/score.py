"""Output of a scored text on the terminal."""

import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from charlm.api.documents import DocumentScores
from charlm.api.options import ScoreOptions
from charlm.api.scoring import Scoring
from charlm.evaluation.reading import Floats
from charlm.evaluation.scoring import Listeners, size_of
from charlm.evaluation.tally import Score, in_bits
from charlm.terminal.console import as_json, print_next, print_page, print_result, print_status
from charlm.terminal.progress import TaskProgress
from charlm.terminal.training import SECONDS_BETWEEN_LINES, bar
from charlm.text.files.streams import is_stream
from charlm.text.vocabulary import REPLACEMENT, Symbols, Vocabulary

LINES_AT_ONCE = 1 << 16


@contextmanager
def listeners(file: str | None, lines: "SurprisalLines | None") -> Iterator[Listeners]:
    """Show the progress of scoring during a `with` block, and print a line per symbol on request.

    file: the text, or None for a split.
    """
    with ScoringProgress(size_of(file) if file else None) as progress, TaskProgress():
        yield Listeners(lines or (lambda *_: None), progress.advanced)


def scored(scoring: Scoring, vocabulary: Vocabulary) -> None:
    """Print the score of a text, the protocol, the powers of a mixture, the paces of adapted models
    and the cost of unknown characters."""
    score, window = scoring.score, scoring.window
    protocol = f"windows of {window}" if window else "stateful"
    print_result(
        f"{score.bits_per_character:.4f} bits per character, {score.bits_per_byte:.4f} per byte"
    )
    print_result(
        f"{score.characters:,} characters, {score.loss:.4f} nats per symbol, "
        f"perplexity {score.perplexity:.3f}, protocol: {protocol}"
    )
    print_notes(scoring, score, vocabulary)


def print_notes(scored: Scoring | DocumentScores, score: Score, vocabulary: Vocabulary) -> None:
    """Print the paces of adapted models, the powers of a mixture and the cost of unknown
    characters. score: of all texts together."""
    for name, pace in scored.paces.items():
        print_result(
            f"{name} adapted: learning from every {pace.window} symbols once they were read, rate "
            f"{pace.rate:g}, decay {pace.decay:g}; no score of the trained weights"
        )
    if scored.powers:
        shown = ", ".join(f"{name}^{power:.2f}" for name, power in scored.powers.items())
        print_result(f"a mixture, with powers learned from earlier text: {shown}")
    if score.unknown:
        bits = math.log2(vocabulary.outside)
        subject = "1 character is" if score.unknown == 1 else f"{score.unknown:,} characters are"
        print_result(
            f"{subject} outside the vocabulary; each is charged {bits:.1f} bits more, a uniform "
            "guess among all others"
        )


def suggest(source: Sequence[str], file: str | None, options: ScoreOptions) -> None:
    """Print the command to try next. source: the run, and options that load the same."""
    run, *words = source
    if (html := options.get("html")) is not None:
        print_page(html)
    elif file is not None and not is_stream(file):
        suggest_page(source, file, options)
    else:
        print_next("charlm", "inspect", run, *words, "--errors")


def suggest_page(source: Sequence[str], file: str, options: ScoreOptions) -> None:
    """Print the command that writes the page of a scored file. Arguments: as `suggest`."""
    run, *words = source
    words += [part for one in options.get("with_", ()) for part in ("--with", str(one))]
    words += ["--window", str(window)] if (window := options.get("window")) else []
    words += ["--encoding", encoding] if (encoding := options.get("encoding")) else []
    words += ["--adapt"] if options.get("adapt") else []
    page = ("--html", "page.html")
    print_next("charlm", "score", run, file, *words, *page, after=" shows where it is surprised")


class SurprisalLines:
    """Printer of one line per symbol: its surprisal in bits, a tab, the symbol as a JSON string.

    The line of an unknown character includes the cost of identifying it, so that the lines add up
    to the score.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        every = range(len(vocabulary))
        self._ends = [f"\t{as_json(vocabulary.symbol(index))}\n" for index in every]

    def __call__(self, symbols: Symbols, surprisals: Floats) -> None:
        """Print a segment of a text. Shapes: [N] each. Units: surprisals in nats."""
        bits = in_bits(self._vocabulary, symbols, surprisals)
        for start in range(0, len(bits), LINES_AT_ONCE):
            part = slice(start, start + LINES_AT_ONCE)
            pairs = zip(bits[part].tolist(), symbols[part].tolist(), strict=True)
            sys.stdout.write("".join([f"{cost:.4f}{self._ends[index]}" for cost, index in pairs]))


def left_out_lines(vocabulary: Vocabulary, score: Score) -> None:
    """Print a line for each character that a vocabulary without an unknown symbol leaves out."""
    if not vocabulary.has_unknown:
        line = f"{math.log2(vocabulary.outside):.4f}\t{as_json(REPLACEMENT)}\n"
        sys.stdout.write(line * score.unknown)


class ScoringProgress:
    """Progress of scoring. Use it as a context manager around the work.

    total: the number of symbols, or an upper bound; None if unknown.
    """

    def __init__(self, total: int | None) -> None:
        self._total, self._done = total, 0
        self._bar: Any = None
        self._last_line = self._began = time.monotonic()

    def __enter__(self) -> "ScoringProgress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advanced(self, symbols: int) -> None:
        """Add scored symbols; show the progress once it takes longer than a moment."""
        self._done += symbols
        now = time.monotonic()
        if self._bar is None and self._total and now - self._began > 1 and sys.stderr.isatty():
            self._bar = bar(self._total, 0, "{n_fmt}/{total_fmt} symbols {remaining} left")
        if self._bar is not None:
            self._bar.n = min(self._done, self._total or self._done)
            self._bar.refresh()
        elif now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            of_all = f" of at most {self._total:,}" if self._total else ""
            print_status(f"{self._done:,} symbols scored{of_all}")
