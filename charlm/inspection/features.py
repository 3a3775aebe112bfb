"""Features of the characters of a text, for comparison with units.

Every feature is a number per character, determined by the text up to and including it.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float32]

OPENING, CLOSING = "([{", ")]}"
LONGEST_LINE = 80
"""Characters after which a position counts as the end of a long line."""


def features(characters: list[str]) -> dict[str, Reals]:
    """Compute every feature at each position of a text. Shapes: [N] each."""
    return {name: np.array(list(f(characters)), np.float32) for name, f in ALL.items()}


def _position_in_line(text: list[str]) -> Iterable[float]:
    at = 0
    for character in text:
        at = 0 if character == "\n" else at + 1
        yield min(at, LONGEST_LINE)


def _is_indentation(text: list[str]) -> Iterable[float]:
    depth, leading = 0, True
    for character in text:
        if character == "\n":
            depth, leading = 0, True
        elif leading and character in " \t":
            depth += 1
        else:
            leading = False
        yield depth


def _in_brackets(text: list[str]) -> Iterable[float]:
    depth = 0
    for character in text:
        if character in OPENING:
            depth += 1
        elif character in CLOSING:
            depth = max(0, depth - 1)
        yield float(depth > 0)


def _in_quotes(text: list[str]) -> Iterable[float]:
    """Mark quotations, which end at their mark or with the paragraph; an apostrophe within a word
    opens none."""
    mark, before = "", "\n"
    for at, character in enumerate(text):
        if mark and (character == mark or (character == "\n" == before)):
            mark = ""
        elif not mark and character in "\"'\u201c\u2018":
            after = text[at + 1] if at + 1 < len(text) else " "
            if not before.isalnum() and not after.isspace():
                mark = {"\u201c": "\u201d", "\u2018": "\u2019"}.get(character, character)
        before = character
        yield float(bool(mark))


def _in_comment(text: list[str]) -> Iterable[float]:
    inside = ""
    for at, character in enumerate(text):
        pair = character + (text[at + 1] if at + 1 < len(text) else "")
        if not inside and (character == "#" or pair in ("//", "/*")):
            inside = "*" if pair == "/*" else "\n"
        elif (inside == "\n" == character) or (
            inside == "*" and text[at - 1 : at + 1] == ["*", "/"]
        ):
            inside = ""
        yield float(bool(inside))


def _in_capitals(text: list[str]) -> Iterable[float]:
    run = 0
    for character in text:
        run = run + 1 if character.isupper() else 0
        yield float(run >= 2)


def _position_in_word(text: list[str]) -> Iterable[float]:
    at = 0
    for character in text:
        at = at + 1 if character.isalnum() else 0
        yield min(at, 12)


def _of(test: Callable[[str], bool]) -> Callable[[list[str]], Iterable[float]]:
    return lambda text: (float(test(character)) for character in text)


ALL: dict[str, Callable[[list[str]], Iterable[float]]] = {
    "position in line": _position_in_line,
    "position in word": _position_in_word,
    "inside brackets": _in_brackets,
    "inside quotes": _in_quotes,
    "inside a comment": _in_comment,
    "indentation": _is_indentation,
    "word in capitals": _in_capitals,
    "capital letter": _of(str.isupper),
    "between words": _of(lambda c: not c.isalnum()),
    "newline": _of(lambda c: c == "\n"),
    "digit": _of(str.isdigit),
    "vowel": _of(lambda c: c.lower() in "aeiou"),
}
"""The features by name."""
