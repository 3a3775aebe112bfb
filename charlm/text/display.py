"""Text made safe for display: without control characters that a terminal would obey."""

import unicodedata
from collections.abc import Iterable, Sequence

BIDIRECTIONAL = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def visible(text: str) -> str:
    """Replace control characters by their pictures or by escapes."""
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    code = ord(character)
    if character in "\n\t" or (character not in BIDIRECTIONAL and 0x20 <= code < 0x7F):
        return character
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if character in BIDIRECTIONAL or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
        if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
            return f"\\x{code - 0xDC00:02x}"
        return f"\\u{code:04x}"
    return character


def named(unknown: Iterable[str]) -> str:
    """List unknown characters for a message: 'ß' (U+00DF), ..."""
    listed: Sequence[str] = list(unknown)
    names = [f"{c!r} (U+{ord(c):04X})" for c in listed[:8]]
    return ", ".join(names) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")
