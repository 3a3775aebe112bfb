import math
from functools import cache
from typing import Literal

import numpy as np
import pytest
import torch

from charlm.backends.step import TorchComputation
from charlm.common.errors import DataError
from charlm.config.schema import ModelConfig
from charlm.evaluation import reading, scoring, surprisal, tally
from charlm.models.recurrent import CharModel
from charlm.text.corpus import Corpus
from charlm.text.splits import Split
from charlm.text.stretch import Stretch
from charlm.text.vocabulary import Symbols, Vocabulary

V = 11
LENGTH = 1503
VOCABULARY = Vocabulary("char", "none", tuple(range(97, 97 + V)), has_unknown=False)


def made(cell: str = "lstm", **changes: object) -> CharModel:
    config = ModelConfig.model_validate(
        {"cell": cell, "hidden_size": 12, "embedding_size": 5, "num_layers": 2, **changes}
    )
    model = CharModel(config, V)
    model.reset_parameters(3)
    return model.requires_grad_(False)


def text(count: int) -> Symbols:
    return np.random.default_rng(0).integers(0, V, count).astype(np.uint8)


def corpus_of(symbols: Symbols, split: Split) -> Corpus:
    return Corpus(VOCABULARY, symbols, {"train": split}, "")  # type: ignore[arg-type]


def one_by_one(model: CharModel, symbols: Symbols, first: int) -> torch.Tensor:
    """Surprisals by reading the whole text from its very start, symbol after symbol."""
    states, found = model.initial_states(1), []
    for position, symbol in enumerate(symbols.tolist()[:-1]):
        logits, states = model(torch.tensor([[symbol]]), states)
        if position + 1 >= first:
            found.append(-logits[0, 0].log_softmax(-1)[symbols[position + 1]])
    return torch.stack(found)


@cache
def whole_text_one_by_one(cell: str) -> torch.Tensor:
    """Read `text(LENGTH)` by `made(cell)` symbol by symbol, once for each cell; return the
    surprisals of all symbols but the first."""
    return one_by_one(made(cell), text(LENGTH), 1)


def test_uniform_logits_give_exactly_log2_v_bits() -> None:
    model = made()
    model.head.weight.zero_()
    model.head.bias.zero_()
    symbols = text(1000)
    for window in (0, 7):
        _, score = surprisal.evaluate(
            TorchComputation(model),
            corpus_of(symbols, Split(0, 1000, 1000, 1000, {})),
            "train",
            window=window,
        )
        assert score.symbols == 999  # the first follows nothing
        # float32 holds the logarithm to seven digits.
        assert score.bits_per_character == pytest.approx(math.log2(V), rel=1e-6)
        assert score.perplexity == pytest.approx(V, rel=1e-6)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize(("start", "stop"), [(0, 1500), (50, 1500), (700, LENGTH), (1400, 1450)])
@pytest.mark.parametrize("lanes", [1, 3, 64])
def test_every_symbol_counts_once_in_its_place_in_any_number_of_lanes(
    cell: str, start: int, stop: int, lanes: int
) -> None:
    model, symbols = made(cell), text(LENGTH)
    stretch = Stretch(symbols, start, stop)
    found = surprisal.surprisals(TorchComputation(model), stretch, lanes=lanes)
    first = max(start, 1)
    expected = whole_text_one_by_one(cell)[first - 1 : stop - 1]
    assert found.shape == (stop - start,)
    if start == 0:
        assert found[0].item() == pytest.approx(math.log(V))
    # A lane that has read 192 symbols has forgotten how it began, in a small random model.
    torch.testing.assert_close(found[first - start :], expected, rtol=0, atol=2e-5)


def test_lanes_are_warmed_up_on_the_text_before_them() -> None:
    model, symbols = made(), text(2000)
    warm = surprisal.surprisals(TorchComputation(model), Stretch(symbols, 1000, 2000))
    cold = surprisal.surprisals(TorchComputation(model), Stretch(symbols[1000:], 0, 1000))
    assert (warm[1:20] - cold[1:20]).abs().max() > 1e-3
    assert (warm[300:] - cold[300:]).abs().max() < 2e-5


def test_windows_start_from_the_zero_state_and_count_every_symbol_once() -> None:
    model, symbols = made(), text(203)
    found = surprisal.surprisals(TorchComputation(model), Stretch(symbols, 50, 203), window=16)
    expected = []
    for begin in range(50, 203, 16):
        window = symbols[begin - 1 : min(begin + 16, 203)]
        expected.append(one_by_one(model, window, 1))
    torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=1e-5)


def test_windows_are_the_same_whether_read_together_or_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, symbols = made(), text(203)
    together = surprisal.surprisals(TorchComputation(model), Stretch(symbols, 0, 203), window=16)
    monkeypatch.setattr(reading, "LOGITS_AT_ONCE", 1)
    apart = surprisal.surprisals(TorchComputation(model), Stretch(symbols, 0, 203), window=16)
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-5)


def test_longer_windows_predict_better_once_a_model_uses_its_context() -> None:
    model = made("rnn", hidden_size=V, num_layers=1, embedding_size=0)
    for parameter in model.parameters():
        parameter.zero_()
    model.cells[0].weight_ih.copy_(torch.eye(V) * 3)  # the state is the last symbol ...
    model.head.weight.copy_(torch.roll(torch.eye(V), 1, 0) * 20)  # ... and the next is one more
    symbols = (np.arange(400) % V).astype(np.uint8)
    _, score = surprisal.evaluate(
        TorchComputation(model),
        corpus_of(symbols, Split(1, 400, 399, 399, {})),
        "train",
    )
    assert score.bits_per_character < 0.001


def test_a_text_of_one_or_two_symbols_can_be_scored() -> None:
    computation = TorchComputation(made())
    alone = surprisal.surprisals(computation, Stretch.of(text(1)))
    assert alone.tolist() == pytest.approx([math.log(V)])
    assert surprisal.surprisals(computation, Stretch.of(text(2))).shape == (2,)


def test_score_divides_by_source_characters_and_bytes() -> None:
    score = tally.Score(nats=12 * math.log(2), symbols=6, characters=3, bytes=8)
    assert score.bits_per_character == pytest.approx(4)
    assert score.bits_per_byte == pytest.approx(1.5)
    assert score.loss == pytest.approx(2 * math.log(2))


def test_distributions_are_those_that_scoring_uses() -> None:
    model, symbols = made(), text(30)
    rows = surprisal.distributions(model, symbols[:-1])
    torch.testing.assert_close(rows.sum(-1), torch.ones(29))
    found = -rows.log()[torch.arange(29), torch.from_numpy(symbols[1:].astype(np.int64))]
    expected = surprisal.surprisals(TorchComputation(model), Stretch(symbols, 1, 30))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_split_without_a_symbol_is_not_scored() -> None:
    splits = {"train": Split(0, 40, 40, 40, {}), "test": Split(40, 40, 0, 0, {})}
    corpus = Corpus(VOCABULARY, text(40), splits, "")  # type: ignore[arg-type]
    read = scoring.network(made())
    with pytest.raises(DataError) as refused:
        scoring.score_split(read, corpus, "test")
    assert refused.value.what == "the test split of this run is empty"
    assert refused.value.advice == "score another split, or a file"
    assert scoring.score_split(read, corpus, "train").symbols == 39


@pytest.mark.parametrize(
    ("unit", "points", "size"), [("byte", tuple(range(256)), 1), ("char", (0xE9, 97), 2)]
)
def test_first_symbol_of_a_text_counts_with_its_bytes(
    unit: Literal["byte", "char"], points: tuple[int, ...], size: int
) -> None:
    vocabulary = Vocabulary(unit, "none", points, has_unknown=False)
    symbols = np.zeros(10, np.uint8)  # of a char vocabulary, the letter e with an accent
    split = Split(0, 10, 10, 10 * size, {})
    total = tally.Tally(vocabulary)
    total.add_nats(1.0, 9)
    total.add_split(Corpus(vocabulary, symbols, {"train": split}, ""), "train")  # type: ignore[arg-type]
    assert total.score() == tally.Score(1.0, symbols=9, characters=9, bytes=9 * size)
