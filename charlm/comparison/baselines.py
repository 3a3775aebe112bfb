"""Baselines without a network, on the same split that the models are scored on."""

import lzma
import math
from dataclasses import dataclass

from charlm.models.ngram import NGram
from charlm.text.corpus import Corpus
from charlm.text.vocabulary import Symbols, Vocabulary

MOST_SYMBOLS = 4_000_000
"""Symbols to count and compress, from the end of the train split: about ten seconds."""
LEAST_DICTIONARY, MOST_DICTIONARY = 1 << 12, 64 << 20
"""Bytes: the smallest that xz takes, and that of its highest setting."""


@dataclass(frozen=True)
class Baselines:
    """Scores of the baselines.

    bits: per character, by split ("validation", and "test" if there is one), then by baseline.
    ngram_order: the best one on validation. ngram_counts: number of the model's counts.
    """

    bits: dict[str, dict[str, float]]
    ngram_order: int
    ngram_counts: int


def baselines(corpus: Corpus) -> Baselines:
    """Measure the baselines. Characters outside the vocabulary cost as much as in `Tally`.

    uniform: all symbols equally probable. unigram: by frequency. ngram: see `models.ngram`. xz:
    the bytes that the split adds to the compressed train split.
    """
    train, size = corpus.stretch("train").tail(MOST_SYMBOLS).read(), len(corpus.vocabulary)
    model = NGram.of(train, size)
    text = _bytes(corpus.vocabulary, train)
    compressed = _xz(text)
    order, result = 0, {}
    for name in ("validation", "test"):
        split, stretch = corpus.splits[name], corpus.stretch(name)
        if not len(split):
            continue
        by_order = model.bits(stretch)
        order = order or by_order.index(min(by_order)) + 1
        totals = {
            "uniform": len(split) * math.log2(size),
            "unigram": by_order[0],
            "ngram": by_order[order - 1],
            "xz": 8.0 * (_xz(text + _bytes(corpus.vocabulary, stretch.read())) - compressed),
        }
        unknown = sum(split.unknown.values()) * math.log2(corpus.vocabulary.outside)
        result[name] = {k: (bits + unknown) / split.characters for k, bits in totals.items()}
    return Baselines(result, order, model.gram_count(order))


def _xz(text: bytes) -> int:
    """Return the size after compression at the highest setting, in bytes.

    The dictionary is no larger than the text needs: one of 64 MiB takes 0.1 s to clear.
    """
    needed = max(LEAST_DICTIONARY, 1 << max(0, len(text) - 1).bit_length())
    highest = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}
    return len(
        lzma.compress(text, filters=[{**highest, "dict_size": min(MOST_DICTIONARY, needed)}])
    )


def _bytes(vocabulary: Vocabulary, symbols: Symbols) -> bytes:
    return vocabulary.decode(symbols.tolist()).encode("utf-8", "surrogateescape")
