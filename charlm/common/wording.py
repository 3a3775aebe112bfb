"""Wording shared by messages: sizes in bytes, and suggestions for mistyped names."""

import difflib
from collections.abc import Iterable
from typing import Any

UNITS = ("B", "KB", "MB", "GB", "TB")
NEAR = 0.66
"""Least similarity, by `difflib`, of a suggested name: one letter of three may differ."""
SHORTEST_START = 3
"""Least letters of a prefix that suggests a name."""


def byte_size(count: float) -> str:
    """Format a number of bytes with three digits: 512 B, 1.25 MB."""
    power = _power(count)
    value = count / 1000**power
    return f"{value:,.0f} {UNITS[power]}" if value >= 100 else f"{value:.3g} {UNITS[power]}"


def different_sizes(first: float, second: float) -> tuple[str, str]:
    """Format two numbers of bytes so that different numbers look different."""
    shown = byte_size(first), byte_size(second)
    if shown[0] != shown[1] or first == second:
        return shown
    power = _power(max(first, second))
    for digits in range(2, 3 * power + 1):
        shown = (
            f"{first / 1000**power:,.{digits}f} {UNITS[power]}",
            f"{second / 1000**power:,.{digits}f} {UNITS[power]}",
        )
        if shown[0] != shown[1]:
            break
    return shown


def _power(count: float) -> int:
    """Return the power of 1,000 of the unit in which a number of bytes has at most three digits."""
    power = 0
    while count / 1000**power >= 999.5 and power < len(UNITS) - 1:
        power += 1
    return power


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean ...?" if a known name is similar to a word or begins with it, else
    ""."""
    word, names = word.lower(), list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=NEAR)
    if len(word) >= SHORTEST_START:
        near += [name for name in names if name.startswith(word)]
    return f"; did you mean {near[0]!r}?" if near else ""


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, whose plural ends with an s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def spread_text(values: dict[str, Any] | None, absent: str = "-") -> str:
    """Format a mean and standard deviation; `absent` for None."""
    if values is None:
        return absent
    if values["std"] is None:
        return f"{values['mean']:.3f}"
    return f"{values['mean']:.3f} ± {values['std']:.3f}"
