"""Inputs of `charlm inspect`: a text to draw, or labelled lines.

Importing this does not import torch, so that mistakes are reported quickly.
"""

from collections import Counter
from pathlib import Path

from charlm.common.errors import DataError, UsageError
from charlm.text.files.compressed import cannot_read, open_to_read
from charlm.text.files.decoding import decode

LONGEST = 2_000
"""Symbols of a drawn text, at most: more would be less than a pixel each."""
MOST, LEAST = 20_000, 40
"""Largest and least number of labelled lines."""


def refuse_length(text: str, most: int = LONGEST) -> None:
    """Check the length of a text to be drawn. Raises: UsageError."""
    if not text:
        raise UsageError("the text is empty", "give at least one character")
    if len(text) > most:
        raise UsageError(
            f"the text has {len(text):,} characters, at most {most:,} can be drawn",
            "give a piece of it",
        )


def read_labelled(path: Path) -> list[tuple[str, str]]:
    """Read lines of a label, a tab and a text.

    Raises: DataError for a line without a tab, too few lines, or not exactly two labels.
    """
    try:
        with open_to_read(path) as file:
            lines = decode(path, file.read()).split("\n")
    except OSError as error:
        raise cannot_read(str(path), error) from None
    labelled = []
    for number, line in enumerate(lines[:MOST], start=1):
        label, tab, text = line.rstrip("\r").partition("\t")
        if not line:
            continue
        if not tab:
            raise DataError(
                f"line {number} of {path} has no tab: {line[:40]!r}",
                "write a label, a tab and the text in each line",
            )
        if text:
            labelled.append((label, text))
    counts = Counter(label for label, _ in labelled)
    if len(counts) != 2 or len(labelled) < LEAST:
        named = ", ".join(f"{label!r} ({count})" for label, count in counts.most_common(5))
        raise DataError(
            f"{path}: {len(labelled):,} lines with {len(counts)} labels: {named}",
            f"give at least {LEAST} lines with two labels",
        )
    return labelled
