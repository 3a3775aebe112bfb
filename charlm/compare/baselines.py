"""What can be reached without a network, on the very split that the models are scored on."""

import lzma
import math
from dataclasses import dataclass

import numpy as np

from charlm.models.ngram import NGram
from charlm.text.corpus import Corpus
from charlm.text.vocabulary import Symbols, Vocabulary

MOST_SYMBOLS = 4_000_000
"""Counting and compressing read so many, the last of the train split: about ten seconds."""


@dataclass(frozen=True)
class Baselines:
    """What is reached without a network.

    bits: a character, by split ("validation", and "test" where there is one), then by baseline.
    ngram_order: the best one on validation. ngram_counts: how many the model keeps.
    """

    bits: dict[str, dict[str, float]]
    ngram_order: int
    ngram_counts: int


def baselines(corpus: Corpus) -> Baselines:
    """Measure what is reached without a network. What the vocabulary lacks costs as in `Tally`.

    uniform: every symbol as probable as the next. unigram: by how often each occurs. ngram: see
    `charlm.ngram`. xz: what the split adds to the size of the compressed train split.
    """
    start, stop = max(corpus.train.start, corpus.train.stop - MOST_SYMBOLS), corpus.train.stop
    train, size = np.asarray(corpus.symbols[start:stop]), len(corpus.vocabulary)
    model = NGram.of(train, size)
    text = _bytes(corpus.vocabulary, train)
    compressed = _xz(text)
    order, result = 0, {}
    for name in ("validation", "test"):
        split = corpus.splits[name]
        if not len(split):
            continue
        held_out = np.asarray(corpus.symbols[split.start : split.stop])
        by_order = model.bits(corpus.symbols, split.start, split.stop)
        order = order or by_order.index(min(by_order)) + 1
        totals = {
            "uniform": len(split) * math.log2(size),
            "unigram": by_order[0],
            "ngram": by_order[order - 1],
            "xz": 8.0 * (_xz(text + _bytes(corpus.vocabulary, held_out)) - compressed),
        }
        unknown = sum(split.unknown.values()) * math.log2(corpus.vocabulary.outside)
        result[name] = {k: (bits + unknown) / split.characters for k, bits in totals.items()}
    return Baselines(result, order, model.gram_count(order))


def _xz(text: bytes) -> int:
    """Count the bytes after compression at the highest setting."""
    return len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))


def _bytes(vocabulary: Vocabulary, symbols: Symbols) -> bytes:
    return vocabulary.decode(symbols.tolist()).encode("utf-8", "surrogateescape")
