"""The n-gram baseline: a distribution, by the formula, better with more context."""

import math

import numpy as np
import pytest
from conftest import words

from charlm.models.ngram import NGram
from charlm.text.stretch import Stretch
from charlm.text.vocabulary import Symbols


def encoded(text: str) -> tuple[Symbols, int]:
    alphabet = sorted(set(text))
    return np.array([alphabet.index(c) for c in text], np.uint8), len(alphabet)


@pytest.mark.parametrize("size", [1, 2, 5, 40, 3000])
def test_probabilities_of_every_order_sum_to_one(size: int) -> None:
    symbols, count = encoded(words(3000)[:size])
    vocabulary_size = count + 2  # two symbols that the text does not hold
    model = NGram.of(symbols, vocabulary_size, order=5)
    rng = np.random.default_rng(0)
    seen = [symbols[at : at + model.order - 1] for at in range(0, max(1, size - 5), 37)]
    contexts = [c for c in seen if len(c) == model.order - 1]
    contexts += list(rng.integers(0, vocabulary_size, (20, model.order - 1)).astype(np.uint8))
    for context in contexts:
        repeated = np.tile(context, (vocabulary_size, 1))
        for chances in model.probabilities(repeated, np.arange(vocabulary_size, dtype=np.uint8)):
            assert (chances > 0).all()
            assert chances.sum() == pytest.approx(1, abs=1e-12)  # float64, tens of terms


def test_bigrams_follow_the_formula_of_kneser_and_ney() -> None:
    text = "abracadabra-abrakadabra-barbara"
    symbols, size = encoded(text)
    model = NGram.of(symbols, size, order=2)
    singles, pairs = list(text), [text[i : i + 2] for i in range(len(text) - 1)]
    alphabet = sorted(set(text))

    def discounts(counts: dict[str, int]) -> list[float]:
        n = [sum(c == k for c in counts.values()) for k in range(5)]
        if min(n[1:4]) == 0:
            return [0, 0.5, 1.0, 1.5]
        y = n[1] / (n[1] + 2 * n[2])
        found = [k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3)]
        return [0, *(min(max(d, 0.05), k) for k, d in enumerate(found, start=1))]

    raw = {pair: pairs.count(pair) for pair in set(pairs)}
    before = {w: len({p[0] for p in pairs if p[1] == w}) for w in set(singles)}
    d_pair, d_single = discounts(raw), discounts(before)

    def unigram(w: str) -> float:
        taken = sum(d_single[min(c, 3)] for c in before.values())
        kept = before[w] - d_single[min(before[w], 3)]
        return (kept + taken / size) / sum(before.values())

    def bigram(c: str, w: str) -> float:
        of_c = {p: k for p, k in raw.items() if p[0] == c}
        count = raw.get(c + w, 0)
        taken = sum(d_pair[min(k, 3)] for k in of_c.values())
        return (count - d_pair[min(count, 3)] + taken * unigram(w)) / sum(of_c.values())

    for c in alphabet:
        contexts = np.full((size, 1), alphabet.index(c), np.uint8)
        found = model.probabilities(contexts, np.arange(size, dtype=np.uint8))[1]
        assert found == pytest.approx([bigram(c, w) for w in alphabet], rel=1e-12)


def test_bits_of_a_stretch_are_the_sum_over_its_symbols() -> None:
    symbols, size = encoded(words(400))
    cut = len(symbols) - 150
    model = NGram.of(symbols[:cut], size, order=4)
    found = model.bits(Stretch(symbols, cut, len(symbols)))
    for order in range(1, 5):
        total = 0.0
        for at in range(cut, len(symbols)):
            context = symbols[at - 3 : at][None]
            total -= math.log2(model.probabilities(context, symbols[at : at + 1])[order - 1][0])
        assert found[order - 1] == pytest.approx(total, rel=1e-12)


def test_more_context_predicts_words_better() -> None:
    symbols, size = encoded(words(3000))
    cut = len(symbols) * 9 // 10
    bits = NGram.of(symbols[:cut], size, order=5).bits(Stretch(symbols, cut, len(symbols)))
    each = [b / (len(symbols) - cut) for b in bits]
    assert each[0] > each[1] > each[2] > each[3]
    assert each[3] < 1 < each[0] < math.log2(size)


def test_text_at_the_very_start_has_no_context_to_read() -> None:
    symbols, size = encoded(words(100))
    bits = NGram.of(symbols, size, order=6).bits(Stretch(symbols, 0, 20))
    assert all(math.isfinite(b) and b > 0 for b in bits)


@pytest.mark.parametrize("order", [1, 2, 5])
def test_distributions_are_the_probabilities_of_every_symbol(order: int) -> None:
    symbols, count = encoded(words(300))
    model = NGram.of(symbols, count + 1, order)
    contexts = np.lib.stride_tricks.sliding_window_view(symbols, order)[:200, : order - 1]
    foreign = np.random.default_rng(0).integers(0, count + 2, (50, order - 1))
    for given in (contexts, foreign, contexts[:0]):
        found = model.distributions(given)
        assert found.shape == (len(given), count + 1)
        for symbol in range(count + 1):
            expected = model.probabilities(given, np.full(len(given), symbol))[-1]
            assert found[:, symbol] == pytest.approx(expected, rel=1e-12)


def test_a_case_is_the_length_that_is_known_and_how_often_it_occurs() -> None:
    symbols, size = encoded(words(300))
    order = 4
    model, text = NGram.of(symbols, size, order), bytes(symbols)

    def known(context: bytes) -> tuple[int, int]:
        for length in range(order - 1, -1, -1):
            suffix = context[len(context) - length :]
            if count := sum(text.startswith(suffix, at) for at in range(len(text) - length)):
                return length, sum(count >= often for often in (2, 4, 16, 64))
        raise AssertionError

    contexts = np.lib.stride_tricks.sliding_window_view(symbols, order - 1)[:200]
    contexts = np.concatenate([contexts, contexts[:, ::-1]])  # many of which do not occur
    found = model.cases(contexts)
    expected = [known(bytes(context)) for context in contexts]
    assert found.max() < model.case_count
    assert len({*expected}) == len({*found.tolist()}) == len({*zip(expected, found, strict=True)})
    assert len({*expected}) > 6
