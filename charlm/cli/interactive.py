"""`charlm sample --interactive`: the user and the model write a text in turns."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from charlm.api.options import SampleOptions
from charlm.api.sampling import begin
from charlm.cli.escapes import ESCAPES
from charlm.common.errors import CharlmError, UsageError
from charlm.config import loading
from charlm.terminal import console

if TYPE_CHECKING:
    from charlm.api.loaded import Loaded
    from charlm.api.plain import PlainLoaded

HELP = """Type, and press Enter: the model goes on. Tab takes the likeliest word.
Ctrl-C stops the model, Ctrl-D ends.
/temperature 0.5, /top_k 20, /top_p 0.9, /min_p 0.05, /length 200, /seed 7   change how it writes
/undo takes back the last turn, /new begins anew, /text shows all of it; \\n is the end of a line"""
SETTINGS: dict[str, type] = {
    **{"temperature": float, "top_p": float, "min_p": float, "repetition_penalty": float},
    **{"top_k": int, "length": int, "seed": int},
}
LENGTH, LONGEST_WORD = 100, 30
"""Symbols of a turn, unless `--length` is given, and most of a word."""


@dataclass
class Session:
    """A text that is written in turns. options: of sampling; each turn adds 1 to a given seed.
    before: the text before each turn."""

    loaded: "Loaded | PlainLoaded"
    options: SampleOptions
    text: str = ""
    before: list[str] = field(default_factory=list)

    def turn(self, typed: str) -> Iterator[str]:
        """Add a typed text; yield pieces of the model's continuation, and keep those taken."""
        self.before.append(self.text)
        self.text += typed
        writing = begin(self.loaded, self.text, **self.options)
        if "seed" in self.options:
            self.options["seed"] += 1
        for piece in writing:
            self.text += piece
            yield piece
        if writing.samples[0].ended:  # a record: the next turn begins another
            self.text = ""

    def undo(self) -> None:
        """Take the last turn back."""
        if self.before:
            self.text = self.before.pop()

    def likely_word(self, typed: str) -> str:
        """Return the likeliest continuation of the text, up to the end of a word."""
        options: SampleOptions = {"length": LONGEST_WORD, "temperature": 0.0, "threads": 1}
        written = "".join(begin(self.loaded, self.text + typed, **options))
        first = next((at for at, one in enumerate(written) if one.isalnum()), len(written) - 1)
        word = "".join(takewhile(str.isalnum, written[first:]))
        return written[:first] + word

    def change(self, line: str) -> str:
        """Carry out a command, without its slash; return a line to print. Raises: UsageError."""
        name, _, value = line.partition(" ")
        actions: dict[str, Callable[[], Any]] = {"undo": self.undo, "new": self._begin_anew}
        if name in actions:
            actions[name]()
            return self.text[-300:] or "(nothing yet)"
        if name == "text":
            return self.text or "(nothing yet)"
        if name in SETTINGS:
            return self._set(name, value)
        if name != "help":
            raise UsageError(f"there is no command /{name}", "/help lists them; // begins with a /")
        return HELP

    def _begin_anew(self) -> None:
        self.before.append(self.text)
        self.text = ""

    def _set(self, name: str, value: str) -> str:
        """Change an option of sampling. Raises: UsageError for a value that it cannot have."""
        try:
            number = SETTINGS[name](value)
        except ValueError:
            raise UsageError(f"{value!r} is no value of {name}", f"such as /{name} 1") from None
        if name != "seed":
            loading.with_options(self.loaded.checkpoint.config.sample, {name: number})
        elif number < 0:
            raise UsageError(f"seed = {number} is below 0", "such as /seed 7")
        self.options[name] = number  # type: ignore[literal-required]
        return f"{name} = {value}"


def converse(loaded: "Loaded | PlainLoaded", prompt: str, options: SampleOptions) -> None:
    """Read lines from stdin, and print the model's continuation of each to stdout."""
    session = Session(loaded, {"length": LENGTH, **options}, prompt)
    is_terminal = sys.stdin.isatty()
    if prompt:
        console.print_status(prompt)
    if is_terminal:
        console.print_status("/help lists the commands; Tab takes the likeliest word", "aside")
        _complete_by(session)
    knows_backslash = not loaded.vocabulary.unknown_in("\\")
    while (line := _read_line(is_terminal)) is not None:
        try:
            if line.startswith("/") and not line.startswith("//"):
                for shown in session.change(line[1:].strip()).splitlines():
                    console.print_status(shown)
                continue
            typed = line.removeprefix("/") if line.startswith("//") else line
            _print_turn(session, typed if knows_backslash else _unescaped(typed))
        except CharlmError as error:
            console.print_status(f"{error.what}; {error.advice}")


def _print_turn(session: Session, typed: str) -> None:
    """Print a turn as it is written; Ctrl-C ends it, and the text so far stays."""
    writer = console.Writer()
    if not sys.stdin.isatty():
        writer.write(typed)
    with _caught_interrupts() as interrupts:
        for piece in session.turn(typed):
            writer.write(piece)
            if interrupts:
                break
    writer.end_line()


@contextlib.contextmanager
def _caught_interrupts() -> Iterator[list[int]]:
    """Yield a list to which each Ctrl-C during a `with` block is added; elsewhere it ends the
    command. Nothing is raised: a piece is printed as a whole or not at all."""
    interrupts: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)


def _read_line(is_terminal: bool) -> str | None:
    """Return a typed line without its end; None at the end of stdin."""
    if is_terminal:
        try:
            return input("> ")
        except EOFError:
            print()
            return None
    line = sys.stdin.readline()
    return line.removesuffix("\n") if line else None


def _unescaped(text: str) -> str:
    for escape, character in ESCAPES.items():
        text = text.replace(escape, character)
    return text


def _complete_by(session: Session) -> None:
    """Let Tab take the likeliest word, where Python has readline."""
    try:
        import readline
    except ImportError:  # on Windows
        return

    def complete(typed: str, number: int) -> str | None:
        return None if number else typed + session.likely_word(typed)

    readline.set_completer(complete)
    readline.set_completer_delims("")
    is_editline = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if is_editline else "tab: complete")
