"""Printing of all commands: messages on stderr, the result of a command on stdout.

Text from a model or a file is never interpreted as rich's markup, and on a terminal its control
characters are made visible.
"""

import contextlib
import json
import logging
import re
import shlex
import sys
from collections.abc import Collection, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.theme import Theme

from charlm.text.display import visible

LONGEST_MESSAGE, MOST_DETAILS = 800, 8
"""Characters of a message and number of details that are shown."""
UNPRINTABLE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that JSON does not escape, but a terminal might obey or UTF-8 cannot hold."""


STYLES = Theme(
    {
        "heading": "bold",
        "next": "bold",
        "best": "bold",
        "aside": "dim",
        "likely": "bold green",
        "good": "green",
        "doubtful": "yellow",
        "bad": "red",
        "warning": "yellow",
        "error": "bold red",
    }
)
"""All styles of the commands, by meaning."""


class PlainConsole(Console):
    """A console that passes on a broken pipe, for example by `head`, to its only handler."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


talk = PlainConsole(stderr=True, highlight=False, soft_wrap=True, theme=STYLES)
out = PlainConsole(highlight=False, soft_wrap=True, theme=STYLES)


def print_status(message: str, style: str = "") -> None:
    """Print one line to stderr, never interpreted as markup."""
    with _bars_set_aside():
        talk.print(Text(one_line(message), style=style))


def print_next(*words: object, after: str = "") -> None:
    """Print the command to try next, to stderr. after: text after the command."""
    print_status(f"next: {shlex.join(map(str, words))}{after}", "next")


def print_page(path: object) -> None:
    """Print, to stderr, the suggestion to open a page next."""
    print_status(f"next: open {path} in a browser", "next")


def print_result(message: str, style: str = "") -> None:
    """Print one line of a command's result, never interpreted as markup."""
    with _bars_set_aside():
        out.print(Text(one_line(message), style=style))


def _bars_set_aside() -> contextlib.AbstractContextManager[object]:
    """Clear progress bars while a `with` block prints, and draw them again after it."""
    tqdm = sys.modules.get("tqdm")  # there is no bar if it was never imported
    return tqdm.tqdm.external_write_mode(file=sys.stderr) if tqdm else contextlib.nullcontext()


def one_line(message: str) -> str:
    """Return a message as one line of limited length: names in it may contain any characters."""
    if len(message) > LONGEST_MESSAGE:
        message = f"{message[:LONGEST_MESSAGE]}... ({len(message):,} characters)"
    return _on_one_line(message)


def _on_one_line(message: str) -> str:
    return visible(message).replace("\n", "\u240a")


def print_question(about: str, names: Sequence[str], question: str) -> None:
    """Print a question about names, each in full on a line of its own."""
    print_status(about)
    for name in names:
        talk.print(Text(f"  {_on_one_line(name)}"))
    talk.print(Text(question), end="")


def print_json(value: Any) -> None:
    """Print a command's result as one line of JSON."""
    print(as_json(value))


def as_json(value: Any) -> str:
    """Format JSON without escaping the letters of any script."""
    text = json.dumps(value, ensure_ascii=False)
    return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def print_columns(
    heading: Sequence[str],
    rows: Sequence[Sequence[str | Text]],
    *,
    right: Collection[int] = (),
    styles: Sequence[str] = (),
) -> None:
    """Print a table without truncating its cells, on a terminal of any width.

    rows: of cells; a `Text` is printed in its own style. right: columns aligned to the right.
    styles: of the rows.
    """
    shown = [[_cell(cell) for cell in row] for row in (heading, *rows)]
    widths = [max(cell.cell_len for cell in column) for column in zip(*shown, strict=True)]
    for number, row in enumerate(shown):
        line = Text(style="heading" if number == 0 else styles[number - 1] if styles else "")
        for at, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - cell.cell_len)
            parts = (space, cell) if at in right else (cell, space)
            for part in (*parts, "  "):
                line.append(part)
        line.rstrip()
        out.print(line)


def _cell(cell: str | Text) -> Text:
    return Text(visible(cell)) if isinstance(cell, str) else Text(visible(cell.plain), cell.style)


def error(what: str, advice: str, details: Sequence[str] = ()) -> None:
    """Print an error, its details on a line each, and the advice."""
    print_status(f"error: {what}", "error")
    for detail in details[:MOST_DETAILS]:
        print_status(f"  {detail}", "error")
    if len(details) > MOST_DETAILS:
        print_status(f"  and {len(details) - MOST_DETAILS} more", "error")
    print_status(f"help: {advice}")


def warn(message: str) -> None:
    """Print a warning."""
    print_status(f"warning: {message}", "warning")


class _LogHandler(logging.Handler):
    """A log handler that prints the library's messages; each warning only once."""

    def __init__(self) -> None:
        super().__init__()
        self._warnings: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno < logging.WARNING:
            print_status(message)
        elif message not in self._warnings:
            self._warnings.add(message)
            warn(message)


def show_log(*, quiet: bool, warns: bool = True) -> None:
    """Print the library's log messages; if quiet, only warnings.

    warns: False suppresses warnings, too, because another process prints the same.
    """
    log = logging.getLogger("charlm")
    log.handlers = [_LogHandler()]
    log.setLevel(logging.ERROR if not warns else logging.WARNING if quiet else logging.INFO)


def duration(seconds: float) -> str:
    """Format seconds as 1:05 or 2 h 03 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes}:{rest:02d}"


def _encodable(text: str) -> str:
    """Return a text that stdout can encode, without unpaired surrogates."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


class Writer:
    """A writer of model text to stdout: with visible control characters on a terminal, unchanged in
    a pipe."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        if not self._terminal and hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape", newline="")
        self._last = "\n"

    def write(self, text: str) -> None:
        if not text:
            return
        sys.stdout.write(visible(text) if self._terminal else _encodable(text))
        if self._terminal:
            sys.stdout.flush()
        self._last = text[-1]

    def write_mark(self, text: str) -> None:
        """Write a remark that is not part of the text, on a terminal only."""
        if self._terminal:
            self.write(text)

    def end_line(self) -> None:
        """Begin a new line unless the output is at the start of one."""
        if self._last != "\n":
            sys.stdout.write("\n")
            self._last = "\n"
