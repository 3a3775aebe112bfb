"""Guesses of a text's encoding: the codecs under which its bytes are most probable."""

import codecs
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from charlm.text.files.alphabets import ALPHABETS, Alphabet

SAMPLE = 1 << 15
"""Bytes to judge by: some thousand characters, in a few hundredths of a second."""
WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
CONTROLS = bytes({*range(0x20)} - {*b"\t\n\v\f\r\x1b"})
SHORTEST = 16
"""Fewest bytes by which one of these codecs is recognised."""
SHOWN = 32
"""Characters of a decoded text shown in a message."""
NO_TEXT = 0.05
"""Share of control and unassigned characters above which decoded bytes are not a text."""

# Bits of a character. Those outside the alphabet cost as much as in another language's text.
ASCII_LETTER, ASCII_OTHER, OTHER_LETTER, OTHER, CONTROL, NO_CHARACTER = 4.5, 6.5, 13.5, 15, 30, 40
PUNCTUATION, PUNCTUATION_BITS = "“”‘’„‚–—…«»·№°§ ", 7.0
CAPITAL, JOINED, MIXED, RARER = 4.0, 4.0, 10.0, 4.0
"""Extra bits: for a capital; for two adjacent letters beyond ASCII, in languages in which these are
rare; for a word that mixes scripts; for each rank of a codec below the likeliest."""
WHITESPACE = "\t\n\r\f"
BEYOND = r"(?:[^\W\d_\0-\x7f]|[\u05b0-\u05c7\u0e31-\u0e4e])"
PAIRS = re.compile(rf"(?={BEYOND}{BEYOND})")
MIXTURES = re.compile(rf"(?=[A-Za-z]{BEYOND}|{BEYOND}[A-Za-z])")


@dataclass(frozen=True)
class Guess:
    """A decoding of a text's bytes. text: its beginning. bits: their total code length."""

    codec: str
    text: str
    bits: float
    is_text: bool

    def __str__(self) -> str:
        return f'{self.codec}: "{excerpt(self.text)}"'


def likeliest(content: bytes, *, without: str = "utf-8") -> list[Guess]:
    """Rank codecs by the probability of a text's bytes; return the best two that decode it
    differently.

    without: the codec that cannot decode the text.
    """
    content = content[:SAMPLE]
    best: dict[str, Guess] = {}  # by decoded text: codecs that agree are one guess
    names = [name for alphabet in ALPHABETS for name in alphabet.codecs]
    for name in dict.fromkeys([*names, *WIDE, "utf-8"]):
        if name == without:
            continue
        guess = _guess(content, name)
        if guess.text not in best or guess.bits < best[guess.text].bits:
            best[guess.text] = guess
    return sorted(best.values(), key=lambda guess: guess.bits)[:2]


def wide_codec(content: bytes) -> str:
    """Recognise UTF-16 or UTF-32 without a byte order mark in content that is valid UTF-8, too;
    return the codec, or "" if it is neither.

    About every second byte is then a control character, and the decoded text has none.
    """
    content = content[:SAMPLE]
    halves = content[0::2], content[1::2]
    are_controls = (len(half.translate(None, CONTROLS)) < len(half) / 5 for half in halves)
    if len(content) < SHORTEST or not any(are_controls):
        return ""
    own = _guess(content, "utf-8")
    wide = min((_guess(content, name) for name in WIDE), key=lambda guess: guess.bits)
    return wide.codec if wide.is_text and wide.bits < own.bits / 2 else ""


def excerpt(text: str) -> str:
    """Return some words of a text around its first character beyond ASCII, to show on a line."""
    first = next((at for at, c in enumerate(text) if not c.isascii() and c != "\ufeff"), 0)
    begin = max(text.rfind("\n", 0, first), text.rfind(" ", 0, max(0, first - SHOWN // 2))) + 1
    shown = "".join(c if c.isprintable() else " " for c in text[begin : begin + 4 * SHOWN])
    shown = " ".join(shown.removeprefix("\ufeff").split())
    return shown if len(shown) <= SHOWN else shown[: SHOWN - 1].rstrip() + "…"


def _guess(content: bytes, name: str) -> Guess:
    """Decode a text, without a character cut off at its end, and compute its code length."""
    text = codecs.getincrementaldecoder(name)("replace").decode(content)
    counts = Counter(text)
    bits = min(_bits(text, counts, one) + rarity for one, rarity in _alphabets_of(name))
    wrong = sum(number for c, number in counts.items() if _beyond(c) >= CONTROL)
    return Guess(name, text, bits, is_text=wrong <= NO_TEXT * max(1, len(text)))


@lru_cache(maxsize=64)
def _alphabets_of(name: str) -> list[tuple[Alphabet, float]]:
    """Return the alphabets that a codec encodes, each with extra bits if it rarely does."""
    narrow = [(one, RARER * one.codecs.index(name)) for one in ALPHABETS if name in one.codecs]
    return narrow or [(one, 0.0) for one in ALPHABETS]


def _bits(text: str, counts: Mapping[str, int], alphabet: Alphabet) -> float:
    """Return the code length of a text in the language of an alphabet, in bits."""
    costs = _costs(alphabet)
    bits = sum(number * (costs.get(c) or _beyond(c)) for c, number in counts.items())
    if alphabet.is_latin:
        return bits + JOINED * len(PAIRS.findall(text))
    return bits + MIXED * len(MIXTURES.findall(text))


@lru_cache(maxsize=len(ALPHABETS))
def _costs(alphabet: Alphabet) -> dict[str, float]:
    """Return the bits of the letters of an alphabet, by Zipf's law over their ranks."""
    costs = dict.fromkeys(PUNCTUATION, PUNCTUATION_BITS)
    for rank, letter in enumerate(alphabet.letters):
        if alphabet.is_large:
            bits = math.log2(rank + 10) + 2.4
        else:
            bits = math.log2(rank + 2) + (5.0 if alphabet.is_latin else 1.6)
        costs.setdefault(letter, bits)
        capital = letter.upper()
        if len(capital) == 1 and not capital.isascii():
            costs.setdefault(capital, bits + CAPITAL)
    return costs


@lru_cache(maxsize=1 << 14)
def _beyond(character: str) -> float:
    """Return the bits of a character outside the alphabet."""
    if character.isascii():
        if character.isalpha() or character == " ":
            return ASCII_LETTER
        return ASCII_OTHER if character.isprintable() or character in WHITESPACE else CONTROL
    if character == "\N{REPLACEMENT CHARACTER}":
        return NO_CHARACTER
    if unicodedata.category(character) in ("Cc", "Co", "Cn", "Cs"):
        return CONTROL
    return OTHER_LETTER if character.isalpha() else OTHER
