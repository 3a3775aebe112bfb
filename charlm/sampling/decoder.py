"""Incremental decoding of symbols into text that can no longer change."""

import unicodedata
from collections.abc import Sequence

from charlm.text.vocabulary import Vocabulary


class StreamDecoder:
    """A decoder that returns text once it is certain: jamo wait for their syllable, bytes for their
    character, and a possible beginning of `stop` for the next characters.

    stop: the text ends before it, or before the first of several; an empty one is none.
    """

    def __init__(self, vocabulary: Vocabulary, stop: str | Sequence[str]) -> None:
        self.vocabulary = vocabulary
        self.stops = [one for one in ([stop] if isinstance(stop, str) else stop) if one]
        self.stopped = False
        self.decoded = 0
        """Characters so far, those that are held back included."""
        self._units: list[int] = []
        self._held = ""

    def add(self, index: int) -> str:
        """Add one symbol; return the text that has become certain."""
        if self.vocabulary.unit == "char":
            return self._before_stop(self.vocabulary.symbol(index))
        if self._units and not self._continues(index):
            text = self.vocabulary.decode(self._units)
            self._units = [index]
            return self._before_stop(text)
        self._units.append(index)
        if self.vocabulary.unit == "byte" and self._is_complete():
            text = self.vocabulary.decode(self._units)
            self._units = []
            return self._before_stop(text)
        return ""

    def rest(self) -> str:
        """Return the remaining text at the end."""
        text = self._before_stop(self.vocabulary.decode(self._units))
        self._units = []
        text, self._held = text + ("" if self.stopped else self._held), ""
        return text

    def _continues(self, index: int) -> bool:
        """Return True if a symbol belongs to the same character as the waiting ones."""
        if self.vocabulary.unit == "byte":
            return index & 0xC0 == 0x80
        symbol = self.vocabulary.symbol(index)
        waiting = self.vocabulary.decode(self._units)
        return unicodedata.combining(symbol) > 0 or (
            len(unicodedata.normalize("NFC", waiting + symbol))
            == len(unicodedata.normalize("NFC", waiting))
        )

    def _is_complete(self) -> bool:
        lead = self._units[0]
        length = 1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
        return len(self._units) >= length

    def _before_stop(self, text: str) -> str:
        self.decoded += len(text)
        if self.stopped or not self.stops:
            return "" if self.stopped else text
        self._held += text
        found = [at for stop in self.stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            certain, self._held = self._held[: min(found)], ""
            return certain
        cut = len(self._held) - max(map(self._begun, self.stops))
        certain, self._held = self._held[:cut], self._held[cut:]
        return certain

    def _begun(self, stop: str) -> int:
        """Return the number of characters at the end of the held text with which a stop begins."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if stop.startswith(self._held[-n:])), 0)
