"""The length of a text, in units that make models with different symbols comparable."""

from collections.abc import Sequence

from charlm.text.files.measuring import characters_in
from charlm.text.vocabulary import END_OF_RECORD, Vocabulary, as_bytes, joined


class TextSize:
    """Counts of a text's characters and UTF-8 bytes, by which its score is divided.

    Each is counted in the text as it is and in the normal form that `decode` returns; the smaller
    count is used. (Otherwise a text in NFD, which has more characters, would have fewer bits per
    character when it is read as NFC.)
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._source = self._normalized = (0, 0)

    def add(self, piece: str | bytes) -> None:
        """Count a piece that can be normalised independently."""
        size = as_given = _size(piece)
        if isinstance(piece, str) and not piece.isascii():
            size = _size(self._vocabulary.normalized(piece))
        self._source = (self._source[0] + as_given[0], self._source[1] + as_given[1])
        self._normalized = (self._normalized[0] + size[0], self._normalized[1] + size[1])

    def add_records(self, records: Sequence[str | bytes], *, counts_ends: bool) -> None:
        """Count records. counts_ends: True counts one character for the end of each, too."""
        if isinstance(records[0], bytes):
            self.add(b"\n".join([*map(as_bytes, records), b""]))
        else:
            self.add(joined(records).replace(chr(END_OF_RECORD), "\n"))
        if not counts_ends:
            count = len(records)
            self._source = (self._source[0] - count, self._source[1] - count)
            self._normalized = (self._normalized[0] - count, self._normalized[1] - count)

    @property
    def totals(self) -> tuple[int, int, int, int]:
        """Characters and bytes of the text, and of its normal form."""
        return (*self._source, *self._normalized)

    @property
    def characters(self) -> int:
        return shorter(self.totals)[0]

    @property
    def bytes(self) -> int:
        return shorter(self.totals)[1]


def shorter(totals: tuple[int, int, int, int]) -> tuple[int, int]:
    """Return the characters and the bytes of a text or of its normal form, whichever has fewer."""
    return min(totals[0], totals[2]), min(totals[1], totals[3])


def _size(text: str | bytes) -> tuple[int, int]:
    """Count a text's characters and UTF-8 bytes."""
    if isinstance(text, bytes):
        return characters_in(text), len(text)
    return len(text), len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
