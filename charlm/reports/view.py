"""A view of a model: what it found in a sentence, then figures, tables and coloured text.

The same view is a page, PNGs, lines on a terminal and JSON.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from charlm.errors import CharlmError
from charlm.files import replace
from charlm.reports.page import render, write_page
from charlm.reports.picture import Picture
from charlm.text.display import visible

STRONGEST = 0.55
"""Of a colour behind text: beyond it the text would be hard to read."""


@dataclass(frozen=True)
class Table:
    """Rows of text. is_text: all columns are words, not only the first."""

    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    about: str = ""
    is_text: bool = False


@dataclass(frozen=True)
class Coloured:
    """A text with a number behind each character: -1 is blue, 1 is orange. Shapes: values [N]."""

    about: str
    characters: Sequence[str]
    values: NDArray[Any]


@dataclass(frozen=True)
class Written:
    """A piece of text as it is."""

    about: str
    text: str


@dataclass(frozen=True)
class Equation:
    """Lines of an equation."""

    lines: str


@dataclass(frozen=True)
class Command:
    """A command line that shows more. about: what it is for."""

    about: str
    line: str


Block = Picture | Table | Coloured | Written | Equation | Command | str
"""What a section is made of; a string is a paragraph."""


@dataclass(frozen=True)
class Section:
    """A part of a page under a title of its own. holds: whether what the title claims is true, if
    it claims anything."""

    title: str
    blocks: Sequence[Block]
    holds: bool | None = None


@dataclass(frozen=True)
class View:
    """What was found. name: of its files. title: its message. data: what `--json` prints of it."""

    name: str
    title: str
    sentences: Sequence[str]
    sections: Sequence[Section]
    data: Any
    about: str = ""
    language: str = "en"
    again: str = "To make it again"
    """The heading above the command that makes the page."""
    pictures: list[Picture] = field(init=False, default_factory=list)
    """All figures, in order."""

    def __post_init__(self) -> None:
        blocks = (block for section in self.sections for block in section.blocks)
        self.pictures.extend(block for block in blocks if isinstance(block, Picture))


def write(view: View, folder: Path, made_by: str, *, pngs: bool = True) -> Path:
    """Write a view's page into a folder, its figures too where `pngs`; return the page.

    made_by: the command that makes it again. Raises: CharlmError where one cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for picture in view.pictures if pngs else ():
            replace(folder / f"{picture.name}.png", picture.png())
    except OSError as error:
        raise CharlmError(
            f"cannot write to {folder}: {error.strerror}", "make room, or name another --out"
        ) from None
    path = folder / f"{view.name}.html"
    write_page(path, html(view, made_by, pngs=pngs))
    return path


def html(view: View, made_by: str, *, pngs: bool = True) -> str:
    """Make the page. All text in it is escaped; only the figures are taken as they are."""
    sections = [
        (section, [_for_page(block) for block in section.blocks]) for section in view.sections
    ]
    return render("view.html.j2", view=view, sections=sections, made_by=made_by, pngs=pngs)


def _for_page(block: Block) -> tuple[str, Any]:
    """Return a block with its kind, as the template takes it."""
    if isinstance(block, str):
        return "paragraph", block
    if isinstance(block, Picture):
        return "picture", (block, Markup(block.svg()))  # noqa: S704 (our own)
    if isinstance(block, Coloured):
        return "coloured", (block.about, coloured_runs(block))
    return type(block).__name__.lower(), block


def notebook_html(block: Coloured) -> str:
    """Return a coloured text as a piece of HTML, all text in it escaped."""
    pieces = "".join(
        f'<span style="{style}">{escape(text)}</span>' for text, style in coloured_runs(block)
    )
    return (
        f"<p>{escape(block.about)}</p>"
        f'<div style="font-family: monospace; white-space: pre-wrap">{pieces}</div>'
    )


def coloured_runs(block: Coloured) -> list[tuple[str, str]]:
    """Return pieces of a coloured text with the style of each; neighbours of one colour joined."""
    runs: list[tuple[str, str]] = []
    levels = np.rint(np.clip(np.nan_to_num(block.values), -1, 1) * 8).astype(int).tolist()
    for character, level in zip(block.characters, levels, strict=True):
        colour = "213 94 0" if level > 0 else "0 114 178"
        style = f"background:rgb({colour}/{abs(level) / 8 * STRONGEST:.2f})" if level else ""
        shown = "\u21b5\n" if character == "\n" else visible(character)
        if runs and runs[-1][1] == style:
            runs[-1] = (runs[-1][0] + shown, style)
        else:
            runs.append((shown, style))
    return runs
