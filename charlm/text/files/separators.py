"""Separators of records, which may match line ends of Windows."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Separator:
    """A separator of records, to cut text or bytes at.

    If it has a "\\n" after another character than "\\r", each "\\n" in it also matches "\\r\\n".
    All others match only themselves, so that they divide a text as earlier versions did.

    is_exact: True if it matches its own characters only, in any case.
    """

    text: str
    is_exact: bool = False

    @cached_property
    def _parts(self) -> list[str]:
        """Its parts: line ends, and the characters between them."""
        if self.is_exact or not re.search(r"[^\r]\n", self.text):
            return [self.text]
        return re.split(r"(?<!\r)(\n)", self.text)

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], re.Pattern[bytes]]:
        source = "".join(r"\r?\n" if part == "\n" else re.escape(part) for part in self._parts)
        return re.compile(source), re.compile(source.encode())

    @property
    def is_flexible(self) -> bool:
        """True if it matches other line ends than its own."""
        return len(self._parts) > 1

    def longest(self, like: str | bytes) -> int:
        """Return the largest length of a match, in characters or bytes."""
        own = self.text if isinstance(like, str) else self.text.encode()
        return len(own) + self._parts.count("\n")

    def split(self, content: Any) -> list[Any]:
        """Cut a text or bytes at every match, from left to right."""
        is_text = isinstance(content, str)
        if self.is_flexible and ("\r\n" if is_text else b"\r\n") in content:
            pattern: Any = self._patterns[0 if is_text else 1]
            parts: list[Any] = pattern.split(content)
        else:
            parts = content.split(self.text if is_text else self.text.encode())
        return parts

    def is_varied(self, content: bytes) -> bool:
        """Return True if a match in these bytes has other line ends than the separator."""
        if not self.is_flexible or b"\r\n" not in content:
            return False
        own = self.text.encode()
        return any(one[0] != own for one in self._patterns[1].finditer(content))
