"""View of the spans that a model's own text shares with its training text."""

import numpy as np

from charlm.common.wording import counted
from charlm.inspection.copies import LISTED, LONG, SEED, Copied, apart, copies_data
from charlm.reports.view import Coloured, Section, Table, View

SHOWN = 1_500
"""Symbols of the sample that are coloured."""


def memorization_view(name: str, written: Copied, beside: Copied, unit: str) -> View:
    """Show the spans that a sample shares with train. beside: validation text of the same length,
    for comparison with any text of this kind. unit: name of a symbol."""
    longest = written.spans[0].length if written.spans else 0
    if longest >= LONG:
        title = f"{name} has copied: its longest span from train has {counted(longest, unit)}"
    elif longest:
        title = f"{name} writes its own text: the longest span it shares with train has {longest}"
    else:
        title = f"{name} writes its own text: it shares no {SEED} {unit}s with train"
    sections = [
        Section(
            "The longest spans", [_table(written, unit)] if written.spans else ["There are none."]
        ),
        Section("The sample", [_coloured(written, unit)]),
    ]
    return View(
        "memorization",
        title,
        [
            f"{100 * written.share():.1f} % of the sample lies in spans of {SEED} or more "
            f"{unit}s that train holds, {100 * beside.share():.1f} % of validation text does.",
            f"In spans of {LONG} or more: {100 * written.share(LONG):.1f} % and "
            f"{100 * beside.share(LONG):.1f} %.",
        ],
        sections,
        copies_data(written) | {"validation_share": round(beside.share(), 4)},
        about=f"A sample of {counted(len(written.characters), unit)} at temperature 1.",
    )


def _table(copied: Copied, unit: str) -> Table:
    rows = [
        (
            f"{span.length}",
            f"{span.start:,}",
            f"{span.place:,}",
            copied.text_of(span).replace("\n", "\u21b5"),
        )
        for span in apart(list(copied.spans), LISTED)
    ]
    heading = (f"{unit}s", "in the sample at", "in train at", "text")
    return Table(heading, rows, "Longest first; none overlaps another.", is_text=True)


def _coloured(copied: Copied, unit: str) -> Coloured:
    values = np.zeros(len(copied.characters))
    for span in reversed(copied.spans):
        values[span.start : span.start + span.length] = min(1.0, span.length / LONG)
    about = f"The deeper the colour, the longer the span; full colour from {LONG} {unit}s on."
    return Coloured(about, copied.characters[:SHOWN], values[:SHOWN])
