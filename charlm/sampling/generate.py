"""Writing text: a generator of characters."""

import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from charlm.config.schema import SampleConfig
from charlm.models.recurrent import CharModel
from charlm.sampling.engine import engine, threads
from charlm.text.vocabulary import Vocabulary

UNIFORMS_AT_ONCE = 1024

# ---- generation ---------------------------------------------------------------------------------


@dataclass
class Stream:
    """One text being written."""

    indices: list[int] = field(default_factory=list)
    nats: float = 0.0
    """Surprisal of the text under the model itself (temperature 1, nothing filtered)."""
    text: str = ""
    ended: bool = False


def generate(
    model: CharModel,
    vocabulary: Vocabulary,
    settings: SampleConfig,
    *,
    prompt: str = "",
    seed: int = 0,
    num: int = 1,
    stop: str = "",
    thread_count: int = 1,
    streams: list[Stream] | None = None,
    precision: str = "auto",
) -> Iterator[str]:
    """Write `settings.length` symbols after `prompt`; yields the text of the first of `num`
    streams as it comes. `streams`, if given, is filled with all of them.

    The unknown symbol is never written. Unknown characters of the prompt are read as the unknown
    symbol, or left out where there is none. A text that reaches `stop` ends before it. Without a
    prompt the model reads a newline first, or, where it knows none, begins with the first
    character of its training text.
    """
    writer = engine(model, num, precision)
    written = [Stream() for _ in range(num)] if streams is None else streams
    written.extend(Stream() for _ in range(num - len(written)))
    texts = [Composer(vocabulary, stop) for _ in range(num)]
    device = model.head.weight.device

    with torch.inference_mode(), threads(thread_count):
        given = [int(i) for i in vocabulary.encode(prompt)]
        opening = _opening(vocabulary) if not given else None
        if opening is not None and not vocabulary.symbol(opening).isspace():
            for stream, text in zip(written, texts, strict=True):
                stream.indices.append(opening)
                stream.text += text.add(opening)
            if written[0].text:
                yield written[0].text
        for index in given or [opening or 0]:
            writer.read(torch.full((num,), index, device=device))

        uniforms = _uniforms(num, seed)
        left = settings.length - len(written[0].indices)
        while left > 0 and not all(stream.ended for stream in written):
            drawn = torch.stack(list(islice(uniforms, min(left, writer.at_once))))
            left -= len(drawn)
            symbols, nats = writer.write(drawn, settings, vocabulary.unknown)
            for row, costs in zip(symbols.tolist(), nats.tolist(), strict=True):
                for number, stream in enumerate(written):
                    if stream.ended:
                        continue
                    stream.indices.append(row[number])
                    stream.nats += costs[number]
                    piece = texts[number].add(row[number])
                    stream.text += piece
                    stream.ended = texts[number].stopped
                    if number == 0 and piece:
                        yield piece
        for number, stream in enumerate(written):
            piece = texts[number].rest()
            stream.text += piece
            if number == 0 and piece:
                yield piece


def _uniforms(num: int, seed: int) -> Iterator[Tensor]:
    """Endless rows of `num` uniform numbers, drawn on the CPU so that a seed means the same text
    wherever it is written."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        drawn = torch.rand(UNIFORMS_AT_ONCE, num, generator=generator, dtype=torch.float64)
        yield from drawn.unbind(0)


def _opening(vocabulary: Vocabulary) -> int:
    """The symbol to begin with where there is no prompt."""
    newline = vocabulary.encode("\n")
    return int(newline[0]) if newline.size and newline[0] != vocabulary.unknown else 0


class Composer:
    """Symbols in, text out as soon as it is certain: jamo wait for their syllable, bytes for their
    character, and what may be the beginning of `stop` for what follows."""

    def __init__(self, vocabulary: Vocabulary, stop: str) -> None:
        self.vocabulary, self.stop = vocabulary, stop
        self.stopped = False
        self._units: list[int] = []
        self._held = ""

    def add(self, index: int) -> str:
        """The text that is certain now."""
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
        """What is left at the end."""
        text = self._before_stop(self.vocabulary.decode(self._units))
        self._units = []
        text, self._held = text + ("" if self.stopped else self._held), ""
        return text

    def _continues(self, index: int) -> bool:
        """Whether a symbol belongs to the same character as those that wait."""
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
        if self.stopped or not self.stop:
            return "" if self.stopped else text
        self._held += text
        at = self._held.find(self.stop)
        if at >= 0:
            self.stopped = True
            certain, self._held = self._held[:at], ""
            return certain
        keep = next(
            (
                n
                for n in range(min(len(self.stop) - 1, len(self._held)), 0, -1)
                if self.stop.startswith(self._held[-n:])
            ),
            0,
        )
        cut = len(self._held) - keep
        certain, self._held = self._held[:cut], self._held[cut:]
        return certain


# ---- showing ------------------------------------------------------------------------------------

BIDIRECTIONAL = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def visible(text: str) -> str:
    """The text with control characters as pictures or escapes, so that a terminal obeys none."""
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
        if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
            return f"\\x{code - 0xDC00:02x}"
        return f"\\u{code:04x}"
    return character


def bits_per_character(stream: Stream, vocabulary: Vocabulary) -> float:
    """Surprisal of a written text, in bits a character (of its composed form)."""
    characters = len(vocabulary.decode(stream.indices))
    return stream.nats / math.log(2) / max(1, characters)


def named(unknown: Iterable[str]) -> str:
    """Unknown characters for a message: 'ß' (U+00DF), ..."""
    listed: Sequence[str] = list(unknown)
    names = [f"{c!r} (U+{ord(c):04X})" for c in listed[:8]]
    return ", ".join(names) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")
