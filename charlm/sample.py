"""Writing text: filters on the logits as pure functions, and a generator of characters."""

import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from charlm.config import SampleConfig
from charlm.engine import Engine, threads
from charlm.model import CharModel
from charlm.vocabulary import Vocabulary

UNIFORMS_AT_ONCE = 1024

# ---- filters: logits [N, V] -> logits [N, V] ----------------------------------------------------


def with_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Logits over temperature: below 1 sharper, above 1 flatter. Temperature must be positive."""
    return logits / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """All but the k largest logits at -inf (ties with the k-th stay)."""
    if k >= logits.shape[-1]:
        return logits
    smallest_kept = logits.topk(k).values[..., -1:]
    return logits.masked_fill(logits < smallest_kept, -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """All at -inf but the fewest most probable symbols whose probabilities reach p together.

    Source: Holtzman et al. 2020 (arXiv 1904.09751), section 3.1.
    """
    ordered, indices = logits.sort(descending=True)
    before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    dropped = before >= p
    dropped[..., 0] = False
    return logits.masked_fill(torch.zeros_like(dropped).scatter(-1, indices, dropped), -math.inf)


def choose(logits: Tensor, settings: SampleConfig, uniform: Tensor) -> Tensor:
    """One symbol a row, by inverting the cumulative distribution at `uniform` in [0, 1).

    Shapes: logits [N, V], uniform [N], result [N] (int64).
    """
    if settings.temperature == 0:
        return logits.argmax(-1)
    logits = with_temperature(logits, settings.temperature)
    if settings.top_k:
        logits = keep_top_k(logits, settings.top_k)
    if settings.top_p < 1:
        logits = keep_top_p(logits, settings.top_p)
    cumulative = logits.double().softmax(-1).cumsum(-1)
    threshold = uniform.double().unsqueeze(-1) * cumulative[..., -1:]
    # The first symbol whose cumulative probability exceeds the threshold has a probability above 0.
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(-1)


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
) -> Iterator[str]:
    """Write `settings.length` symbols after `prompt`; yields the text of the first of `num`
    streams as it comes. `streams`, if given, is filled with all of them.

    The unknown symbol is never written. Unknown characters of the prompt are read as the unknown
    symbol, or left out where there is none. A text that reaches `stop` ends before it. Without a
    prompt the model reads a newline first, or, where it knows none, begins with the first
    character of its training text.
    """
    engine = Engine(model, num)
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
            logits = engine.read(torch.full((num,), index, device=device))

        uniforms = _uniforms(num, seed, device)
        for _ in range(settings.length - len(written[0].indices)):
            surprisal = -logits.log_softmax(-1)
            if vocabulary.unknown is not None:
                logits[:, vocabulary.unknown] = -math.inf
            symbols = choose(logits, settings, next(uniforms))
            costs = surprisal.gather(-1, symbols.unsqueeze(-1)).squeeze(-1).tolist()
            for number, index in enumerate(symbols.tolist()):
                stream = written[number]
                if stream.ended:
                    continue
                stream.indices.append(index)
                stream.nats += costs[number]
                piece = texts[number].add(index)
                stream.text += piece
                stream.ended = texts[number].stopped
                if number == 0 and piece:
                    yield piece
            if all(stream.ended for stream in written):
                break
            logits = engine.read(symbols)
        for number, stream in enumerate(written):
            piece = texts[number].rest()
            stream.text += piece
            if number == 0 and piece:
                yield piece


def _uniforms(num: int, seed: int, device: torch.device) -> Iterator[Tensor]:
    """Endless rows of `num` uniform numbers, drawn on the CPU so that a seed means the same text
    wherever it is written."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        drawn = torch.rand(UNIFORMS_AT_ONCE, num, generator=generator, dtype=torch.float64)
        yield from drawn.to(device).unbind(0)


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
