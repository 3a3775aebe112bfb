"""A view of a model: its finding in a sentence, then figures, tables and coloured text.

The same view is a page, PNGs, lines on a terminal and JSON.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from charlm.common.errors import CharlmError
from charlm.common.files import replace
from charlm.reports.page import render, script, write_page
from charlm.reports.picture import Picture
from charlm.text.display import visible

STRONGEST = 0.55
"""Largest opacity of a text's background: beyond it the text would be hard to read."""
LIVE = [f"live/{name}.js" for name in ("cells", "draw", "hello", "gates", "toy", "lecture")]
"""Scripts of a page with live parts, in order."""


@dataclass(frozen=True)
class Table:
    """Rows of text. is_text: True if all columns are text, not only the first."""

    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    about: str = ""
    is_text: bool = False


@dataclass(frozen=True)
class Coloured:
    """A text with a background by number: -1 is blue, 1 is orange. Shapes: values [N]."""

    about: str
    characters: Sequence[str]
    values: NDArray[Any]


@dataclass(frozen=True)
class Written:
    """A piece of verbatim text."""

    about: str
    text: str


@dataclass(frozen=True)
class Equation:
    """Lines of an equation."""

    lines: str


@dataclass(frozen=True)
class Command:
    """A command line that shows more. about: its purpose."""

    about: str
    line: str


@dataclass(frozen=True)
class Live:
    """A part that the page's script computes; the page alone has it. name: of its template in
    `templates/live`. data: its numbers. words: its texts, by name."""

    name: str
    data: Mapping[str, Any]
    words: Mapping[str, str]


Block = Picture | Table | Coloured | Written | Equation | Command | Live | str
"""A block of a section; a string is a paragraph."""


@dataclass(frozen=True)
class Section:
    """A part of a page with a title of its own. holds: True if the title's claim holds; None if it
    is not a claim."""

    title: str
    blocks: Sequence[Block]
    holds: bool | None = None


@dataclass(frozen=True)
class View:
    """A view. name: of its files. title: its message. data: for the output of `--json`."""

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

    def _repr_html_(self) -> str:
        """Return the message and the figures as HTML, for a notebook."""
        sentences = "".join(f"<p>{escape(one)}</p>" for one in self.sentences)
        figures = "".join(
            f'<div style="max-width: 48em">{one.svg()}</div>' for one in self.pictures
        )
        return f"<h3>{escape(self.title)}</h3>{sentences}{figures}"


def write(view: View, folder: Path, made_by: str, *, pngs: bool = True) -> Path:
    """Write a view's page to a folder and, if `pngs`, its figures; return the page's path.

    made_by: the command that makes it again. Raises: CharlmError if one cannot be written.
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
    """Make the page. All text in it is escaped, except the figures' SVG."""
    sections = [
        (section, [_for_page(block) for block in section.blocks]) for section in view.sections
    ]
    is_live = any(kind == "live" for _, blocks in sections for kind, _ in blocks)
    source, digest = script(*LIVE) if is_live else (None, None)
    return render(
        "view.html.j2",
        view=view,
        sections=sections,
        made_by=made_by,
        pngs=pngs,
        script=source,
        digest=digest,
    )


def _for_page(block: Block) -> tuple[str, Any]:
    """Return a block with its kind, for the template."""
    if isinstance(block, str):
        return "paragraph", block
    if isinstance(block, Picture):
        return "picture", (block, Markup(block.svg()))  # noqa: S704 (our own)
    if isinstance(block, Coloured):
        return "coloured", (block.about, coloured_runs(block))
    return type(block).__name__.lower(), block


def notebook_html(block: Coloured) -> str:
    """Return a coloured text as a piece of HTML, with all text escaped."""
    pieces = "".join(
        f'<span style="{style}">{escape(text)}</span>' for text, style in coloured_runs(block)
    )
    return (
        f"<p>{escape(block.about)}</p>"
        f'<div style="font-family: monospace; white-space: pre-wrap">{pieces}</div>'
    )


def coloured_runs(block: Coloured) -> list[tuple[str, str]]:
    """Return pieces of a coloured text with their styles; neighbours of one colour are joined."""
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
