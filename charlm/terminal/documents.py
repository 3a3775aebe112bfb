"""Output of several scored documents on the terminal."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.cells import cell_len

from charlm.api.documents import DocumentScores, PairedScores, method
from charlm.api.options import ScoreOptions
from charlm.evaluation.scoring import Listeners, size_of
from charlm.terminal.console import out, print_columns, print_result, print_status
from charlm.terminal.progress import TaskProgress
from charlm.terminal.score import ScoringProgress, print_notes, suggest_page
from charlm.text.display import visible
from charlm.text.files.streams import is_stream
from charlm.text.files.walking import TextFiles
from charlm.text.vocabulary import Vocabulary

MOST_ROWS = 50
"""Most documents in the table; of more, those with the most bits per character, or the largest
differences."""
SHORTEST_NAME = 12
"""Least width of the names in a narrow terminal."""


@contextmanager
def listeners(found: TextFiles, runs: int) -> Iterator[Listeners]:
    """List the files left out of folders, and show the progress of scoring during a `with` block.

    runs: number of runs that read the documents.
    """
    if found.left_out_count:
        print_status(f"{len(found.files):,} documents; {found.left_out_text()}")
    sizes = [size_of(str(file)) for file in found.files]
    total = None if None in sizes else runs * sum(filter(None, sizes))
    with ScoringProgress(total) as progress, TaskProgress():
        yield Listeners(advanced=progress.advanced)


def scored(scores: DocumentScores, vocabulary: Vocabulary) -> None:
    """Print the score of each document, their mean with its interval, the score of all characters
    and the worst document."""
    has_unknown = scores.pooled.unknown > 0
    rows = [
        [
            one.path,
            f"{one.score.characters:,}",
            *([f"{one.score.unknown:,}"] if has_unknown else []),
            f"{one.score.bits_per_character:.4f}",
        ]
        for one in scores.documents
    ]
    heading = ["document", "characters", *(["unknown"] if has_unknown else []), "bits/char"]
    _print_rows(heading, rows, scores.bits_per_character)
    pooled, worst = scores.pooled, scores.worst
    print_result(f"mean      {scores.mean.mean:.4f} bits per character, {_bounds(scores)}")
    print_result(
        f"all text  {pooled.bits_per_character:.4f} bits per character of "
        f"{pooled.characters:,} characters"
    )
    print_result(f"worst     {worst.score.bits_per_character:.4f}, {worst.path}")
    print_result(f"protocol  {_protocol(scores)}")
    print_notes(scores, pooled, vocabulary)


def compared(pair: PairedScores, vocabularies: Sequence[Vocabulary]) -> None:
    """Print the scores of each document by two runs, their difference with its interval, the number
    of documents on which each run is better, and the mean of each run."""
    first, second = pair.scores, pair.against
    both = zip(first.documents, second.documents, pair.differences, strict=True)
    rows = [
        [
            one.path,
            f"{one.score.characters:,}",
            f"{one.score.bits_per_character:.4f}",
            f"{other.score.bits_per_character:.4f}",
            f"{difference:+.4f}",
        ]
        for one, other, difference in both
    ]
    heading = ["document", "characters", "bits/char", "against", "difference"]
    _print_rows(heading, rows, [abs(one) for one in pair.differences])
    better, worse = pair.better
    words = "less" if pair.mean.mean < 0 else "more"
    print_result(
        f"mean      {first.run} has {abs(pair.mean.mean):.4f} bits per character {words} than "
        f"{second.run}"
    )
    print_result(f"          {_verdict(pair)}")
    print_result(f"better    {first.run} on {better:,} of {len(rows):,}, {second.run} on {worse:,}")
    print_result(
        f"all text  {first.pooled.bits_per_character:.4f} and "
        f"{second.pooled.bits_per_character:.4f} bits per character of "
        f"{first.pooled.characters:,} characters, {pair.pooled:+.4f}"
    )
    print_result(f"protocol  {_protocol(first)}")
    for scores, vocabulary in zip((first, second), vocabularies, strict=True):
        worst = scores.worst
        print_result(f"{scores.run}: mean {scores.mean.mean:.4f}, {_bounds(scores)}")
        print_result(f"{scores.run}: worst {worst.score.bits_per_character:.4f}, {worst.path}")
        print_notes(scores, scores.pooled, vocabulary)


def suggest(result: DocumentScores, source: Sequence[str], options: ScoreOptions) -> None:
    """Print the command to try next, on the worst document. Arguments: as `score.suggest`."""
    if not is_stream(result.worst.path):
        suggest_page(source, result.worst.path, options)


def _print_rows(
    heading: Sequence[str], rows: Sequence[Sequence[str]], sizes: Sequence[float]
) -> None:
    """Print the table, of the rows with the largest sizes if they are too many."""
    shown = rows
    if len(rows) > MOST_ROWS:
        order = sorted(range(len(rows)), key=lambda at: -sizes[at])[:MOST_ROWS]
        shown = [rows[at] for at in order]
    others = [max(map(cell_len, column)) for column in zip(heading, *shown, strict=True)][1:]
    room = max(SHORTEST_NAME, out.width - sum(others) - 2 * len(others))
    named = [[_shortened(row[0], room), *row[1:]] for row in shown]
    print_columns(heading, named, right=range(1, len(heading)))
    if len(rows) > MOST_ROWS:
        which = "difference" if heading[-1] == "difference" else "number of bits"
        print_result(
            f"and {len(rows) - MOST_ROWS:,} more, with a smaller {which}: --json lists all"
        )
    print_result("")


def _shortened(path: str, room: int) -> str:
    """Return a path without its beginning, if a terminal has no room for the whole."""
    path = visible(path)
    if not out.is_terminal or cell_len(path) <= room:
        return path
    while cell_len(path) > room - 1:
        path = path[1:]
    return f"\u2026{path}"


def _bounds(scores: DocumentScores) -> str:
    """Describe the interval of the mean, or the reason for which there is none."""
    mean, count = scores.mean, len(scores.documents)
    return method(count) if mean.is_open else f"95 % interval {mean.low:.4f} to {mean.high:.4f}"


def _verdict(pair: PairedScores) -> str:
    """Describe the interval of the mean difference."""
    mean = pair.mean
    if mean.is_open:
        return method(len(pair.differences))
    shown = f"95 % interval of the difference {mean.low:+.4f} to {mean.high:+.4f}"
    if mean.is_below_zero or mean.is_above_zero:
        return shown
    return f"{shown}: not shown which is better"


def _protocol(scores: DocumentScores) -> str:
    window = scores.window
    return f"windows of {window}" if window else "stateful, each document from the zero state"
