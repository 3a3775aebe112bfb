"""What can be reached without a network, on the very split that the models are scored on."""

import lzma
import math

from charlm.corpus import Corpus
from charlm.ngram import HIGHEST_ORDER, NGram
from charlm.vocabulary import Symbols, Vocabulary

MOST_SYMBOLS = 4_000_000
"""Of the train split that counting and compressing read, its last ones: about ten seconds."""

Bits = dict[str, float]


def baselines(corpus: Corpus) -> tuple[dict[str, Bits], int]:
    """Bits a character by split ("validation", and "test" where there is one), and the order of the
    n-gram model: the best one on validation.

    uniform: every symbol as probable as the next. unigram: by how often each occurs. ngram: see
    `charlm.ngram`. xz: what the split adds to the size of the compressed train split.
    """
    start, stop = max(corpus.train.start, corpus.train.stop - MOST_SYMBOLS), corpus.train.stop
    train, size = corpus.symbols[start:stop], len(corpus.vocabulary)
    model = NGram(train, size)
    text = _bytes(corpus.vocabulary, train)
    compressed = _xz(text)
    order, result = 0, {}
    for name in ("validation", "test"):
        split = corpus.splits[name]
        if not len(split):
            continue
        held_out = corpus.symbols[split.start : split.stop]
        by_order = model.bits(corpus.symbols, split.start, split.stop)
        order = order or by_order.index(min(by_order)) + 1
        totals = {
            "uniform": len(split) * math.log2(size),
            "unigram": by_order[0],
            "ngram": by_order[order - 1],
            "xz": 8.0 * (_xz(text + _bytes(corpus.vocabulary, held_out)) - compressed),
        }
        result[name] = {kind: bits / split.characters for kind, bits in totals.items()}
    assert 1 <= order <= HIGHEST_ORDER
    return result, order


def _xz(text: bytes) -> int:
    """Bytes after compression at the highest setting."""
    return len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))


def _bytes(vocabulary: Vocabulary, symbols: Symbols) -> bytes:
    return vocabulary.decode(symbols.tolist()).encode("utf-8", "surrogateescape")
