"""Generation of text by a model, piece by piece."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from charlm.common import memory, progress
from charlm.common.errors import UsageError
from charlm.config.schema import REPETITION_WINDOW, SampleConfig
from charlm.models.plain import PlainModel, no_prediction
from charlm.sampling.decoder import StreamDecoder
from charlm.sampling.uniforms import AT_ONCE, uniforms
from charlm.sampling.writers import make_writer
from charlm.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from charlm.models.recurrent import CharModel
    from charlm.sampling.engine import Engine

COLDEST = 1e-6
"""Temperatures below it count as 0: dividing by them overflows."""
BYTES_OF_SAMPLE, BYTES_OF_SYMBOL = 1000, 9
"""Least bytes in Python of a text, and of each symbol in it."""


@dataclass
class Sample:
    """One text being written."""

    indices: list[int] = field(default_factory=list)
    nats: float = 0.0
    """Surprisal of the text under the unfiltered model, at temperature 1."""
    text: str = ""
    ended: bool = False


@dataclass(frozen=True)
class Draw:
    """Options of drawing that are not in the configuration.

    seed: the same seed gives the same text. num: of texts. stop: a text that reaches it ends before
    it. threads: of torch, during sampling. precision: see `choose_precision`.
    """

    seed: int = 0
    num: int = 1
    stop: str = ""
    threads: int = 1
    precision: str = "auto"

    def __post_init__(self) -> None:
        """Check the numbers. Raises: UsageError."""
        for name, least in (("seed", 0), ("num", 1), ("threads", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise UsageError(f"{name} = {value!r} is not a whole number", f"from {least} on")


class Generation:
    """The sampling of texts of `config.length` symbols after `prompt`; iterate over it once.

    It yields the pieces of the first text as they are written; all texts are in `samples`.

    The unknown symbol is never written. Unknown characters of the prompt are read as the unknown
    symbol, or left out if there is none. Without a prompt the model reads a newline first or, if it
    knows none, begins with the first character of its training text. If the vocabulary has an end
    of records, each text is a record: it begins with `prompt` and ends with that symbol.

    model: a plain one is sampled from by the kernels, which must be there for it. make: an engine
        factory, called with the number of texts; None samples from the model alone.

    Raises: UsageError for an unavailable precision, or more texts than fit in memory.
    """

    def __init__(
        self,
        model: "CharModel | PlainModel",
        vocabulary: Vocabulary,
        config: SampleConfig,
        prompt: str = "",
        draw: Draw = Draw(),
        make: "Callable[[int], Engine] | None" = None,
    ) -> None:
        if config.temperature < COLDEST:
            config = config.model_copy(update={"temperature": 0.0})
        self.vocabulary, self.config = vocabulary, config
        _refuse_too_many(model, draw.num, config)
        self.samples = [Sample() for _ in range(draw.num)]
        self.prompt = [int(i) for i in vocabulary.encode(prompt)]
        """The symbols that the texts continue."""
        self._given = [*vocabulary.before, *self.prompt]
        self._seed = draw.seed
        stop = vocabulary.normalized(draw.stop)
        self._decoders = [StreamDecoder(vocabulary, stop) for _ in self.samples]
        self._writer = make_writer(model, draw.num, draw.precision, draw.threads, make)

    def __iter__(self) -> Iterator[str]:
        yield from self._read_prompt()
        rows = uniforms(self._seed, len(self.samples))
        left = self.config.length - len(self.samples[0].indices)
        while left > 0 and not all(sample.ended for sample in self.samples):
            drawn = np.stack(list(islice(rows, min(left, self._writer.chunk_size))))
            progress.report("writing", self.config.length - left, self.config.length)
            left -= len(drawn)
            written = self._writer.write(drawn, self.config, self.vocabulary.unknown)
            yield from self._take(*written)
        for number, (sample, decoder) in enumerate(zip(self.samples, self._decoders, strict=True)):
            piece = decoder.rest()
            sample.text += piece
            if number == 0 and piece:
                yield piece

    def joined(self) -> Sample:
        """Write all texts; return them as one, with a line for each."""
        list(self)
        samples = self.samples
        indices = [index for one in samples for index in one.indices]
        nats = sum(one.nats for one in samples)
        return Sample(indices, nats, "\n".join(one.text for one in samples), ended=True)

    def _read_prompt(self) -> Iterator[str]:
        """Read the prompt or its substitute; yield the substitute if it begins the text."""
        first = self.vocabulary.first if not self._given else None
        if first is not None and not self.vocabulary.symbol(first).isspace():
            for sample, decoder in zip(self.samples, self._decoders, strict=True):
                sample.indices.append(first)
                sample.text += decoder.add(first)
            if self.samples[0].text:
                yield self.samples[0].text
        for index in self._given or [first or 0]:
            self._writer.read(np.full(len(self.samples), index, np.int64))

    def _take(self, symbols: NDArray[Any], nats: NDArray[Any]) -> Iterator[str]:
        """Add symbols to the texts. Shapes: [count, N] each. Raises: CheckpointError for NaN."""
        if not np.isfinite(nats).all():
            raise no_prediction()
        for row, costs in zip(symbols.tolist(), nats.tolist(), strict=True):
            for number, sample in enumerate(self.samples):
                if sample.ended:
                    continue
                decoder, index = self._decoders[number], row[number]
                sample.indices.append(index)
                sample.nats += costs[number]
                ends = index == self.vocabulary.end
                piece = decoder.rest() if ends else decoder.add(index)
                sample.text += piece
                sample.ended = ends or decoder.stopped
                if number == 0 and piece:
                    yield piece


def _refuse_too_many(model: "CharModel | PlainModel", num: int, config: SampleConfig) -> None:
    """Refuse more texts than fit in memory. Raises: UsageError."""
    units, V = model.config.hidden_size * model.config.num_layers, model.vocabulary_size
    each = BYTES_OF_SAMPLE + 8 * AT_ONCE + 4 * (4 * units + 3 * V)
    each += BYTES_OF_SYMBOL * config.length
    if config.repetition_penalty > 1:
        each += 2 * 8 * min(config.length, REPETITION_WINDOW)
    memory.refuse_more(
        num * each,
        memory.available(),
        f"{num:,} texts of {config.length:,} symbols",
        "write fewer at once",
    )


def bits_per_character(sample: Sample, vocabulary: Vocabulary) -> float:
    """Return the surprisal of a written text, in bits per character (of its composed form)."""
    characters = len(vocabulary.decode(sample.indices))
    return sample.nats / math.log(2) / max(1, characters)
