"""The symbols a model reads and writes: characters, bytes or jamo, built from the train split only.

If the vocabulary included the symbols of validation and test, a score would not show that the
model has never seen some of them. Here a symbol for unknown characters takes their place; scores
count and report them.
"""

import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from charlm.common.errors import CheckpointError

Symbols = npt.NDArray[Any]
"""Encoded text: an unsigned integer for each symbol, of the smallest type that can hold them."""

Codes = npt.NDArray[np.uint32]
"""Code points, one uint32 each."""

CODE_POINTS, SURROGATES = 0x110000, 0x800
END_OF_RECORD = 0xD800
"""Stands for the end of a record among code points: no text contains a surrogate."""
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""The unknown symbol, decoded."""


@dataclass(frozen=True)
class Vocabulary:
    """Symbols and their indices.

    unit: "char" (code points), "jamo" (code points of the NFD form) or "byte" (all 256 bytes).
    normalize: the form of the text that `decode` returns: unchanged ("none"), NFC or NFD. For
        jamo, "none" means NFC, because decomposing loses the form of the source.
    code_points: the symbols by index, in order of first appearance; for bytes, 0 to 255.
    has_unknown: True if the next index stands for all other code points.
    has_end: True if the last index stands for the end of a record.
    """

    unit: Literal["char", "byte", "jamo"]
    normalize: Literal["none", "nfc", "nfd"]
    code_points: tuple[int, ...]
    has_unknown: bool
    has_end: bool = False

    def __len__(self) -> int:
        return len(self.code_points) + self.has_unknown + self.has_end

    @property
    def unknown(self) -> int | None:
        """The index of the unknown symbol."""
        return len(self.code_points) if self.has_unknown else None

    @property
    def end(self) -> int | None:
        """The index of the end of a record."""
        return len(self) - 1 if self.has_end else None

    @property
    def before(self) -> list[int]:
        """The indices that a model reads before a text: the end of an earlier record, if any."""
        return [] if self.end is None else [self.end]

    @property
    def first(self) -> int:
        """The index that begins a text without a prompt: of a newline, if the vocabulary has it."""
        newline = self.encode("\n")
        return int(newline[0]) if newline.size and newline[0] != self.unknown else 0

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest unsigned type for the indices."""
        return np.min_scalar_type(max(len(self) - 1, 0))

    def normalized(self, text: str) -> str:
        """Return the result of `decode(encode(text))` for a text of known symbols."""
        form = "nfc" if self.unit == "jamo" and self.normalize == "none" else self.normalize
        if form == "none":
            return text
        return unicodedata.normalize("NFD" if form == "nfd" else "NFC", text)

    @property
    def outside(self) -> int:
        """Number of code points outside the vocabulary, of the 1,112,064 that UTF-8 encodes."""
        return CODE_POINTS - SURROGATES - len(self.code_points)

    def encode(self, text: str | bytes) -> Symbols:
        """Return the indices of a text's symbols.

        Code points outside the vocabulary become the unknown symbol; if there is none, they are
        left out. `unknown_in` counts them. The end of a record is in no text: `encode_records` adds
        it. text: bytes only for unit "byte", which takes them unchanged.
        """
        if self.unit == "byte":
            return np.frombuffer(as_bytes(text), np.uint8).astype(self.dtype, copy=False)
        assert isinstance(text, str)
        if text.isascii():
            return self._encode_ascii(text.encode())
        return self._indices(unit_codes(text, self.unit, self.normalize))

    def _encode_ascii(self, content: bytes) -> Symbols:
        """Encode ASCII, which is the same in every normal form: several times faster."""
        table = self._table[:128]
        missing = b"" if self.has_unknown else bytes(np.flatnonzero(table < 0).tolist())
        if self.dtype == np.uint8:
            mapping = np.resize(np.maximum(table, 0).astype(np.uint8), 256).tobytes()
            return np.frombuffer(content.translate(mapping, missing), np.uint8)
        known = np.frombuffer(content.translate(None, missing), np.uint8)
        return table.astype(self.dtype)[known]

    def encode_records(self, records: Sequence[str | bytes]) -> Symbols:
        """Return the indices of the records' symbols, each followed by the end of a record."""
        assert self.end is not None
        if self.unit == "byte":
            each = [as_bytes(record) for record in records]
            content = np.frombuffer(b"".join(each), np.uint8).astype(self.dtype)
            ends = np.cumsum([len(record) for record in each], dtype=np.int64)
            return np.insert(content, ends, np.full(len(each), self.end, self.dtype))
        codes = unit_codes(joined(records), self.unit, self.normalize)
        ends = codes == END_OF_RECORD
        return self._indices(np.where(ends, 0, codes), ends)

    def _indices(self, codes: Codes, ends: npt.NDArray[np.bool_] | None = None) -> Symbols:
        """Look code points up. ends: mask of the positions that are the end of a record instead."""
        indices = self._table[codes]
        if ends is not None:
            assert self.end is not None
            indices[ends] = self.end
        if not self.has_unknown:
            indices = indices[indices >= 0]
        return indices.astype(self.dtype)

    def decode(self, indices: Iterable[int]) -> str:
        """Return the text of symbols, in the vocabulary's normal form.

        Bytes that are not UTF-8 become lone surrogates, which `encode` turns back into those bytes.
        """
        if self.unit == "byte":
            content = bytes(10 if index == self.end else index for index in indices)
            return content.decode("utf-8", "surrogateescape")
        return self.composed("".join(map(self.symbol, indices)))

    def composed(self, text: str) -> str:
        """Return decoded symbols in the form that readers expect: jamo joined to syllables."""
        if self.unit == "jamo" and self.normalize != "nfd":
            return unicodedata.normalize("NFC", text)
        return text

    def symbol(self, index: int) -> str:
        """Return one symbol as text: a byte as the code point of its value, the end of a record as
        the end of a line."""
        if index == self.end:
            return "\n"
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

    def indices_of(self, symbols: str) -> Symbols:
        """Return the index of each symbol, without normalisation; -1 for those left out."""
        indices: Symbols = self._table[codes_of(symbols)]
        return indices

    def __getstate__(self) -> dict[str, Any]:
        """Omit the table on pickling: another process makes its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_table"}

    @cached_property
    def _table(self) -> npt.NDArray[np.int32]:
        return _table_of(self.code_points, self.unknown)

    def to_json(self) -> dict[str, Any]:
        return {
            "unit": self.unit,
            "normalize": self.normalize,
            "unknown": self.unknown,
            "end": self.end,
            "symbols": None if self.unit == "byte" else [chr(c) for c in self.code_points],
        }

    @classmethod
    def from_json(cls, value: Any) -> "Vocabulary":
        """Parse the result of `to_json`. Raises: CheckpointError for any other value."""
        try:
            unit, normalize, symbols = value["unit"], value["normalize"], value["symbols"]
            known = unit in ("char", "byte", "jamo") and normalize in ("none", "nfc", "nfd")
            codes = tuple(range(256)) if unit == "byte" else tuple(map(ord, symbols))
            if not known or len(set(codes)) < len(codes) or not codes:
                raise ValueError
            if not all(map(_is_scalar, codes)) or type(value["unknown"]) not in (int, type(None)):
                raise ValueError
            end = value.get("end")  # missing in vocabularies from before there were records
            made = cls(unit, normalize, codes, value["unknown"] is not None, end is not None)
            if made.unknown != value["unknown"] or type(end) not in (int, type(None)):
                raise ValueError
            if made.end != end:
                raise ValueError
        except (AttributeError, KeyError, TypeError, ValueError):
            seen = json.dumps(value, default=str)[:60]
            raise CheckpointError(
                f"this is not a vocabulary: {seen}", "use the run that charlm wrote"
            ) from None
        return made


@lru_cache(maxsize=4)
def _table_of(code_points: tuple[int, ...], unknown: int | None) -> npt.NDArray[np.int32]:
    """Make a table from code points to indices, for all of Unicode (4.5 MB)."""
    table = np.full(CODE_POINTS, -1 if unknown is None else unknown, np.int32)
    table[list(code_points)] = np.arange(len(code_points), dtype=np.int32)
    return table


def as_bytes(text: str | bytes) -> bytes:
    """Encode a text in UTF-8. Surrogates that stand for bytes become these bytes; other unpaired
    surrogates become question marks."""
    if isinstance(text, bytes):
        return text
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


BYTES = Vocabulary("byte", "none", tuple(range(256)), has_unknown=False)
BYTES_IN_RECORDS = replace(BYTES, has_end=True)


def _is_scalar(code: int) -> bool:
    """Return True if a code point may occur in a text: all but surrogates."""
    return not 0xD800 <= code < 0xD800 + SURROGATES


def unit_codes(text: str, unit: str, normalize: str) -> Codes:
    """Return the code points of a text's symbols, in the form set by `unit` and `normalize`."""
    if is_decomposed(unit, normalize):
        return codes_of(unicodedata.normalize("NFD", text))
    return codes_of(unicodedata.normalize("NFC", text) if normalize == "nfc" else text)


def is_decomposed(unit: str, normalize: str) -> bool:
    """Return True if a text's symbols are those of its NFD form."""
    return unit == "jamo" or normalize == "nfd"


def joined(records: Iterable[str | bytes]) -> str:
    """Join records into one text, with `END_OF_RECORD`, which never combines, after each."""
    return chr(END_OF_RECORD).join([*map(str, records), ""])


def codes_of(text: str) -> Codes:
    """Return the code points of a text, one uint32 each."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
