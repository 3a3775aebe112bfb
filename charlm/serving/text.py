"""A text that is being written for a client, with its order."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from charlm.sampling.decoder import StreamDecoder
from charlm.sampling.uniforms import uniforms
from charlm.serving.choosing import Doubles, Filters
from charlm.text.vocabulary import Vocabulary

PAUSE = 0.02
"""Seconds between two pieces of a stream, so that sending takes little time from writing."""


@dataclass(frozen=True)
class Order:
    """An order of one text.

    symbols: read first. opening: the number of the first of them that are not the client's; begins:
    True if the text begins with that one. count: of symbols to write at most. seed, column,
    columns: the text draws one of the columns of `uniforms`. stops: texts to end before. likely:
    the number of likely symbols to report with each symbol's ln p; None reports none. echo: True
    reports the prompt, too. streamed: True reports pieces.
    """

    symbols: list[int]
    opening: int
    count: int
    begins: bool = False
    filters: Filters = field(default_factory=Filters)
    seed: int = 0
    column: int = 0
    columns: int = 1
    stops: tuple[str, ...] = ()
    likely: int | None = None
    echo: bool = False
    streamed: bool = False

    def drawn(self) -> Iterator[float]:
        """Yield the uniform numbers of the text."""
        for row in uniforms(self.seed, self.columns):
            yield float(row[self.column])


@dataclass(frozen=True)
class Token:
    """A symbol of a text. offset: its place in the text, in characters. log: ln p, None if it has
    no context. likely: the likely symbols in its place, and itself, with their ln p."""

    index: int
    offset: int
    log: float | None = None
    likely: list[tuple[int, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Piece:
    """A part of a text, and the symbols in it if they are reported."""

    text: str
    tokens: list[Token]


class Text:
    """A text in progress: one thread writes it, another takes its pieces.

    signal: called by the writing thread when there are pieces to take, or the text has ended.
    """

    def __init__(self, order: Order, vocabulary: Vocabulary, signal: Callable[[], None]) -> None:
        self.order, self._vocabulary, self._signal = order, vocabulary, signal
        self.pieces: deque[Piece] = deque()
        self.ended = ""
        """The reason once it has ended: "stop", "length" or "fault"."""
        self.fault = ""
        """The reason of a fault, in words."""
        self.cancelled = False
        """True once no client waits for it."""
        self.written = 0
        self.next = order.symbols[0]
        """The symbol to read next."""
        self._at = 0  # place of `next` among the order's symbols
        self._draws = order.drawn()
        self._decoder = StreamDecoder(vocabulary, order.stops)
        self._echo = StreamDecoder(vocabulary, ())
        self._text: list[str] = []
        self._tokens: list[Token] = []
        self._published, self._characters = -PAUSE, 0
        if order.begins:
            self._text.append(self._decoder.add(self.next))
            self.written = 1
            if order.likely is not None:
                self._tokens.append(Token(self.next, 0))
        if order.echo and not order.opening:
            self._add_echo(None)
        self._end_if_complete()

    @property
    def reads(self) -> bool:
        """True while the order has a symbol after `next`."""
        return self._at + 1 < len(self.order.symbols)

    @property
    def is_scored(self) -> bool:
        """True if ln p of the symbol after `next` is reported."""
        return self.order.likely is not None and (self.order.echo or not self.reads)

    def draw(self) -> float:
        """Return the uniform number of the next choice."""
        return next(self._draws)

    def follow(self, log: Doubles | None) -> None:
        """Go on to the next symbol of the order. log: ln p of every symbol, if it is scored."""
        self._at += 1
        self.next = self.order.symbols[self._at]
        if self.order.echo:
            self._add_echo(log)
        self._end_if_complete()

    def take(self, index: int, log: Doubles | None, now: float) -> None:
        """Add a chosen symbol. log: ln p of every symbol, if it is scored. now: in seconds."""
        decoder, self.next = self._decoder, index
        self.written += 1
        if log is not None:
            self._tokens.append(self._token(self._echo.decoded + decoder.decoded, log))
        ends = index == self._vocabulary.end
        self._text.append(decoder.rest() if ends else decoder.add(index))
        if ends or decoder.stopped:
            self.end("stop")
        elif self.written >= self.order.count:
            self.end("length")
        elif self.order.streamed and now - self._published >= PAUSE and any(self._text):
            self._published = now
            self._publish()
            self._signal()

    def end(self, reason: str, fault: str = "") -> None:
        """End the text. reason: see `ended`."""
        self._text.append(self._decoder.rest())
        self._publish(last=True)
        self.fault = fault
        self.ended = "stop" if reason == "length" and self._decoder.stopped else reason
        self._signal()

    def _end_if_complete(self) -> None:
        """End the text before anything is written if nothing should be."""
        if not self.reads and self.written >= self.order.count:
            self.end("length")

    def _publish(self, *, last: bool = False) -> None:
        """Move the certain text, and the symbols in it, to the pieces."""
        text = "".join(self._text)
        self._text.clear()
        self._characters += len(text)
        count = len(self._tokens)
        if not last or self._decoder.stopped:
            count = sum(one.offset < self._characters for one in self._tokens)
        if text or count:
            self.pieces.append(Piece(text, self._tokens[:count]))
        del self._tokens[:count]

    def _add_echo(self, log: Doubles | None) -> None:
        """Report a symbol of the prompt."""
        if self.order.likely is not None:
            self._tokens.append(self._token(self._echo.decoded, log))
        self._text.append(self._echo.add(self.next))
        if not self.reads:
            self._text.append(self._echo.rest())

    def _token(self, offset: int, log: Doubles | None) -> Token:
        """Return the symbol `next` with its ln p and the likely ones in its place."""
        if log is None:
            return Token(self.next, offset)
        best = np.argsort(-log, kind="stable")[: self.order.likely]
        likely = {int(one): float(log[one]) for one in [*best, self.next]}
        return Token(self.next, offset, float(log[self.next]), list(likely.items()))
