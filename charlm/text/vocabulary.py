"""The symbols a model reads and writes: characters, bytes or jamo, built from the train split only.

A vocabulary that has seen validation and test hides what a model does not know. This one has a
symbol for the unknown instead, and what fell under it is counted and reported.
"""

import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from charlm.errors import CheckpointError

Symbols = npt.NDArray[Any]
"""Encoded text: one unsigned integer a symbol, of the smallest type that holds the vocabulary."""

Codes = npt.NDArray[np.uint32]
"""Code points, one uint32 each."""

CODE_POINTS, SURROGATES = 0x110000, 0x800
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""How the unknown symbol reads when it is decoded."""


@dataclass(frozen=True)
class Vocabulary:
    """Symbols and their indices.

    unit: "char" (code points), "jamo" (code points of the NFD form) or "byte" (all 256 bytes).
    normalize: the form of the text that `decode` returns: as it came ("none"), NFC or NFD. For
        jamo, "none" counts as NFC, because decomposing forgets which form the source had.
    code_points: the symbols by index, in order of first appearance; for bytes, 0 to 255.
    has_unknown: whether one more index, the last, stands for every other code point.
    """

    unit: Literal["char", "byte", "jamo"]
    normalize: Literal["none", "nfc", "nfd"]
    code_points: tuple[int, ...]
    has_unknown: bool

    def __len__(self) -> int:
        return len(self.code_points) + self.has_unknown

    @property
    def unknown(self) -> int | None:
        """The index of the unknown symbol."""
        return len(self.code_points) if self.has_unknown else None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest unsigned type for the indices."""
        return np.min_scalar_type(max(len(self) - 1, 0))

    def normalized(self, text: str) -> str:
        """Return the text that `decode(encode(text))` gives back where every symbol is known."""
        form = "nfc" if self.unit == "jamo" and self.normalize == "none" else self.normalize
        if form == "none":
            return text
        return unicodedata.normalize("NFD" if form == "nfd" else "NFC", text)

    @property
    def outside(self) -> int:
        """How many code points there are beyond the vocabulary: UTF-8 encodes 1,112,064."""
        return CODE_POINTS - SURROGATES - len(self.code_points)

    def encode(self, text: str | bytes) -> Symbols:
        """Return the indices of a text's symbols.

        Bytes are taken as they are (unit "byte" only). What the vocabulary does not know becomes
        the unknown symbol; without one it is left out, and `unknown_in` names it.
        """
        if self.unit == "byte":
            return np.frombuffer(text if isinstance(text, bytes) else as_bytes(text), np.uint8)
        assert isinstance(text, str)
        indices = self._table[unit_codes(text, self.unit, self.normalize)]
        if not self.has_unknown:
            indices = indices[indices >= 0]
        return indices.astype(self.dtype)

    def decode(self, indices: Iterable[int]) -> str:
        """Return the text of symbols, in the vocabulary's normal form.

        Bytes that are no UTF-8 become lone surrogates, which `encode` turns back into those bytes.
        """
        if self.unit == "byte":
            return bytes(indices).decode("utf-8", "surrogateescape")
        return self.composed("".join(map(self.symbol, indices)))

    def composed(self, text: str) -> str:
        """Put decoded symbols into the form that readers expect: jamo joined to syllables."""
        if self.unit == "jamo" and self.normalize != "nfd":
            return unicodedata.normalize("NFC", text)
        return text

    def symbol(self, index: int) -> str:
        """Return one symbol as text (a byte as the code point of its value)."""
        return REPLACEMENT if index == self.unknown else chr(self.code_points[index])

    def unknown_in(self, text: str) -> dict[str, int]:
        """Count the symbols of a text that the vocabulary does not know."""
        if self.unit == "byte":
            return {}
        codes = unit_codes(text, self.unit, self.normalize)
        known = self._table[codes]
        missing = codes[known == (-1 if self.unknown is None else self.unknown)]
        values, counts = np.unique(missing, return_counts=True)
        return {chr(v): int(n) for v, n in zip(values, counts, strict=True)}

    @cached_property
    def _table(self) -> npt.NDArray[np.int32]:
        """Code point -> index, for all of Unicode (4.5 MB)."""
        table = np.full(CODE_POINTS, -1 if self.unknown is None else self.unknown, np.int32)
        table[list(self.code_points)] = np.arange(len(self.code_points), dtype=np.int32)
        return table

    def to_json(self) -> dict[str, Any]:
        return {
            "unit": self.unit,
            "normalize": self.normalize,
            "unknown": self.unknown,
            "symbols": None if self.unit == "byte" else [chr(c) for c in self.code_points],
        }

    @classmethod
    def from_json(cls, value: Any) -> "Vocabulary":
        """Raises: CheckpointError where `value` is not what `to_json` writes."""
        try:
            unit, normalize, symbols = value["unit"], value["normalize"], value["symbols"]
            known = unit in ("char", "byte", "jamo") and normalize in ("none", "nfc", "nfd")
            codes = tuple(range(256)) if unit == "byte" else tuple(map(ord, symbols))
            if not known or len(set(codes)) < len(codes) or not codes:
                raise ValueError
            if not all(map(_is_scalar, codes)) or type(value["unknown"]) not in (int, type(None)):
                raise ValueError
            made = cls(unit, normalize, codes, value["unknown"] is not None)
            if made.unknown != value["unknown"]:
                raise ValueError
        except (KeyError, TypeError, ValueError):
            seen = json.dumps(value, default=str)[:60]
            raise CheckpointError(
                f"this is not a vocabulary: {seen}", "use the run that charlm wrote"
            ) from None
        return made


def as_bytes(text: str) -> bytes:
    """Encode a text in UTF-8, bytes that were none as they were; other halves of surrogate pairs,
    which are no characters, as question marks."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


class TextSize:
    """Counts characters and UTF-8 bytes as a text streams by: of the text, or of its form that
    `decode` gives back, whichever has fewer of them in all. (Else a text in NFD would look easier
    for being read as NFC.)"""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._source = self._normalized = (0, 0)

    def add(self, piece: str | bytes) -> None:
        """Count a piece, which ends where normalising may be cut."""
        size = as_given = _size(piece)
        if isinstance(piece, str) and not piece.isascii():
            size = _size(self._vocabulary.normalized(piece))
        self._source = (self._source[0] + as_given[0], self._source[1] + as_given[1])
        self._normalized = (self._normalized[0] + size[0], self._normalized[1] + size[1])

    @property
    def characters(self) -> int:
        return min(self._source[0], self._normalized[0])

    @property
    def bytes(self) -> int:
        return min(self._source[1], self._normalized[1])


def _size(text: str | bytes) -> tuple[int, int]:
    """Count a text's characters and UTF-8 bytes."""
    if isinstance(text, bytes):
        return int(np.count_nonzero((np.frombuffer(text, np.uint8) & 0xC0) != 0x80)), len(text)
    return len(text), len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


BYTES = Vocabulary("byte", "none", tuple(range(256)), has_unknown=False)


def _is_scalar(code: int) -> bool:
    """Tell whether a code point may stand in a text: all but half of a surrogate pair."""
    return not 0xD800 <= code < 0xD800 + SURROGATES


def unit_codes(text: str, unit: str, normalize: str) -> Codes:
    """Return the code points of a text's symbols, in the form that unit and normalize ask for."""
    if is_decomposed(unit, normalize):
        return codes_of(unicodedata.normalize("NFD", text))
    return codes_of(unicodedata.normalize("NFC", text) if normalize == "nfc" else text)


def is_decomposed(unit: str, normalize: str) -> bool:
    """Tell whether a text's symbols are those of its NFD form."""
    return unit == "jamo" or normalize == "nfd"


def codes_of(text: str) -> Codes:
    """Return the code points of a text, one uint32 each."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


class SymbolCounter:
    """Counts symbols as a text streams by, and remembers their order of first appearance."""

    def __init__(self) -> None:
        self.counts = np.zeros(CODE_POINTS, np.int64)
        self.order: list[int] = []

    def add(self, codes: Codes) -> None:
        new = codes[self.counts[codes] == 0]
        if new.size:
            first = np.zeros(CODE_POINTS, np.int64)
            first[new[::-1]] = np.arange(new.size)[::-1]  # the last write wins: the first place
            seen = np.zeros(CODE_POINTS, np.bool_)
            seen[new] = True
            distinct = np.flatnonzero(seen)
            self.order.extend(distinct[np.argsort(first[distinct])].tolist())
        found = np.bincount(codes)
        self.counts[: found.size] += found

    def decompose(self) -> None:
        """Turn counts of a text's code points into those of its NFD form.

        Decomposing a text decomposes each code point and at most reorders marks, so it need not
        be done to the whole text. The order of first appearance is kept, code point by code point.
        """
        counts, order = self.counts, self.order
        self.counts, self.order = np.zeros(CODE_POINTS, np.int64), []
        for code in order:
            for part in map(ord, unicodedata.normalize("NFD", chr(code))):
                if not self.counts[part]:
                    self.order.append(part)
                self.counts[part] += counts[code]

    def kept(self, minimum_count: int) -> Sequence[int]:
        """List the symbols seen at least so often, in order of first appearance."""
        return [code for code in self.order if self.counts[code] >= minimum_count]
