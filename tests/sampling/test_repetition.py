"""Min-p and the repetition penalty as distributions; texts that run in circles."""

import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from charlm.config import loading
from charlm.config.schema import REPETITION_LENGTH, ModelConfig, SampleConfig
from charlm.models.recurrent import CharModel
from charlm.native.build import UnavailableError
from charlm.native.interface import Kernels
from charlm.native.library import load_library
from charlm.sampling.engine import Engine, NativeEngine, TorchEngine
from charlm.sampling.filters import keep_min_p, with_repetition_penalty
from charlm.sampling.loops import LOOKED_AT, ROUNDS, SPAN, runs_in_circles
from charlm.sampling.repetition import repeating

ROOT = Path(__file__).parents[2]
V = 9
Maker = Callable[[CharModel, int], Engine]


def made() -> CharModel:
    """A model that is far from uniform, and that writes in circles when it is greedy."""
    config = ModelConfig(cell="gru", hidden_size=32, embedding_size=5, num_layers=1)
    model = CharModel(config, V)
    model.reset_parameters(3)
    model.head.weight.data *= 6
    model.head.bias.data += torch.linspace(-1, 1, V)  # logits of either sign
    return model.requires_grad_(False)


def by_kernels(model: CharModel, num: int) -> Engine:
    try:
        return NativeEngine(Kernels(load_library()), model, num, "float32")
    except UnavailableError as error:
        pytest.skip(str(error))


every_engine = pytest.mark.parametrize("make", [TorchEngine, by_kernels], ids=["torch", "native"])


# ---- the filters by their formulas ---------------------------------------------------------------


@given(st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=9), st.floats(0.001, 1))
def test_min_p_keeps_what_has_p_times_the_largest_probability(
    logits: list[float], p: float
) -> None:
    shares = np.exp(np.array(logits) - max(logits))
    shares /= shares.sum()
    expected = [math.log(share) >= math.log(p * shares.max()) - 1e-9 for share in shares]
    at_least = [math.log(share) >= math.log(p * shares.max()) + 1e-9 for share in shares]
    kept = keep_min_p(torch.tensor([logits]), p)[0].isfinite().tolist()
    assert all(a <= b <= c for a, b, c in zip(at_least, kept, expected, strict=True))
    assert kept[int(np.argmax(logits))]


def test_min_p_keeps_a_share_that_is_exactly_at_the_bound() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.125, 0.125]], dtype=torch.float64))
    assert keep_min_p(logits, 0.4).isfinite().tolist() == [[True, True, False, False]]
    assert keep_min_p(logits, 0.2499).isfinite().all()
    assert keep_min_p(logits, 1.0).isfinite().tolist() == [[True, False, False, False]]


def test_penalty_divides_positive_logits_and_multiplies_negative_ones() -> None:
    logits = torch.tensor([[3.0, -2.0, 0.0, 1.5], [1.0, 2.0, -4.0, -math.inf]])
    repeats = torch.tensor([[True, True, True, False], [False, True, True, True]])
    expected = torch.tensor([[2.0, -3.0, 0.0, 1.5], [1.0, 2 / 1.5, -6.0, -math.inf]])
    torch.testing.assert_close(with_repetition_penalty(logits, repeats, 1.5), expected)


def repeats_by_hand(written: list[int], length: int) -> set[int]:
    last = written[len(written) - length + 1 :]
    places = range(len(written) - length + 1)
    return {written[i + length - 1] for i in places if written[i : i + length - 1] == last}


@given(st.lists(st.integers(0, 2), max_size=30), st.integers(1, 5))
def test_symbols_that_repeat_a_stretch_are_found(written: list[int], length: int) -> None:
    rows = torch.tensor([written, written[::-1]], dtype=torch.int64)
    found = repeating(rows, 4, length)
    for row, marks in zip(rows.tolist(), found, strict=True):
        assert set(marks.nonzero().flatten().tolist()) == repeats_by_hand(row, length)


def test_stretches_of_one_symbol_are_all_that_was_written() -> None:
    """The published penalty: every symbol that the text holds."""
    assert repeating(torch.tensor([[0, 3, 3, 2]]), 5, 1).tolist() == [[1, 0, 1, 1, 0]]


# ---- what the engines draw -----------------------------------------------------------------------


def drawn(make: Maker, num: int, chosen: SampleConfig) -> tuple[Tensor, Tensor]:
    """Texts that are alike, 40 greedy symbols in circles, then one symbol of each at random."""
    engine = make(made(), num)
    engine.read(torch.zeros(num, dtype=torch.int64))
    greedy = SampleConfig(temperature=0.0, repetition_penalty=1 + 1e-9)  # counted, but no change
    before, _ = engine.write(torch.zeros(40, num, dtype=torch.float64), greedy, unknown=1)
    assert (before == before[:, :1]).all()
    uniforms = torch.rand(1, num, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    return before[:, 0], engine.write(uniforms, chosen, unknown=1)[0][0]


def expected_shares(written: list[int], chosen: SampleConfig) -> np.ndarray:
    """The formulas by hand, in float64, from the model's own equations."""
    model = made()
    symbols = torch.tensor([0, *written])[:, None]
    logits = model(symbols, model.initial_states(1))[0][-1, 0].double().numpy()
    for symbol in repeats_by_hand(written, REPETITION_LENGTH):
        penalty = chosen.repetition_penalty
        logits[symbol] = (
            logits[symbol] / penalty if logits[symbol] > 0 else logits[symbol] * penalty
        )
    logits[1] = -np.inf  # the unknown symbol
    shares = np.exp((logits - logits.max()) / chosen.temperature)
    shares[shares < chosen.min_p * shares.max()] = 0
    return np.asarray(shares / shares.sum())


@every_engine
@pytest.mark.parametrize(
    "changes",
    [
        {"min_p": 0.1},
        {"repetition_penalty": 1.7},
        {"repetition_penalty": 3.0, "min_p": 0.02, "temperature": 1.5},
    ],
    ids=str,
)
def test_frequencies_are_those_of_the_formulas(make: Maker, changes: dict[str, float]) -> None:
    chosen, num = SampleConfig(**{"temperature": 2.0, **changes}), 20_000
    written, symbols = drawn(make, num, chosen)
    shares = expected_shares(written.tolist(), chosen)
    plain = expected_shares(written.tolist(), SampleConfig(temperature=chosen.temperature))
    assert np.abs(shares - plain).sum() > 0.05  # the options do something here
    counts = np.bincount(symbols.numpy(), minlength=V)
    assert not counts[shares == 0].any()
    often = shares * num >= 5
    chi_square = (((counts - shares * num) ** 2)[often] / (shares * num)[often]).sum()
    assert chi_square < 43  # of 8 degrees of freedom it is larger once in a million times


@every_engine
def test_texts_written_at_once_are_penalized_each_for_its_own_repetitions(make: Maker) -> None:
    chosen = SampleConfig(temperature=0.5, repetition_penalty=2.0, min_p=0.01)
    uniforms = torch.rand(90, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    first = torch.tensor([0, 3, 4])

    def written(column: slice, sizes: list[int]) -> Tensor:
        engine = make(made(), len(first[column]))
        engine.read(first[column])
        parts = uniforms[:, column].split(sizes)
        return torch.cat([engine.write(part, chosen, None)[0] for part in parts])

    together = written(slice(0, 3), [90])
    assert together.equal(written(slice(0, 3), [32, 32, 26]))  # whatever is asked for at a time
    alone = torch.cat([written(slice(i, i + 1), [90]) for i in range(3)], 1)
    # The sums are taken in another order: a uniform may fall between two roundings of one bound.
    assert (together == alone).all(0).sum() >= 2


def test_native_engine_penalizes_what_torch_does_beyond_the_window() -> None:
    chosen = SampleConfig(temperature=0.7, repetition_penalty=1.5, min_p=0.02)
    uniforms = torch.rand(1500, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    texts = []
    for make in (TorchEngine, by_kernels):
        engine = make(made(), 4)
        engine.read(torch.tensor([0, 2, 5, 7]))
        texts.append(torch.cat([engine.write(part, chosen, 1)[0] for part in uniforms.split(32)]))
    assert (texts[0] == texts[1]).all(0).sum() >= 3  # see above
    assert not (texts[1] == 1).any()


@every_engine
def test_penalty_breaks_the_circles_of_greedy_text(make: Maker) -> None:
    def text(penalty: float) -> str:
        engine = make(made(), 1)
        engine.read(torch.tensor([0]))
        chosen = SampleConfig(temperature=0.0, repetition_penalty=penalty)
        symbols, _ = engine.write(torch.zeros(600, 1, dtype=torch.float64), chosen, None)
        return "".join(chr(97 + symbol) for symbol in symbols[:, 0].tolist())

    assert runs_in_circles(text(1.0))
    assert not runs_in_circles(text(3.0))


def test_configurations_without_the_keys_leave_both_off() -> None:
    path = ROOT / "tests/data/run-0.1.0/config.toml"
    chosen = loading.from_toml(path.read_text(encoding="utf-8"), "a run of 0.1.0").sample
    assert (chosen.repetition_penalty, chosen.min_p) == (1.0, 0.0)


# ---- circles -------------------------------------------------------------------------------------


def circles_by_hand(text: str) -> bool:
    for period in range(1, len(text) // ROUNDS + 1):
        span = 0
        while span + period < len(text) and text[-1 - span] == text[-1 - span - period]:
            span += 1
        if span and span + period >= max(SPAN, ROUNDS * period):
            return True
    return False


@settings(deadline=None)
@given(st.text("ab", max_size=20), st.text("ab", min_size=1, max_size=40), st.integers(100, 200))
@example("", "a", SPAN)
@example("b", "a", SPAN - 1)
def test_circles_are_found_where_their_definition_says(lead: str, unit: str, size: int) -> None:
    text = lead + (unit * size)[:size]
    assert runs_in_circles(text) == circles_by_hand(text)


@pytest.mark.parametrize("period", [1, 2, 23, 160, LOOKED_AT // ROUNDS - 1])
def test_circles_of_any_period_are_seen_wherever_the_text_is_cut(period: int) -> None:
    draw = random.Random(period)
    unit = "".join(draw.choices("abcdefgh \n", k=period))
    for rest in {0, period // 2, period - 1}:
        circles = unit * (SPAN // period + ROUNDS) + unit[:rest]
        assert runs_in_circles("So it began. " + circles)
        assert not runs_in_circles(circles + "#")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ha " * 30,
        "no, " * 20 + "never!",
        "| a | b | c |\n" + "|---|---|---|\n" + "| 1 | 2 | 3 |\n" * 3,
        "A heading\n" + "-" * 100 + "\n",
        "0,0,1\n" * 15,
        "Anna\nBen\nAnna\nAnna\nAnna\n" * 3,
        "GATTACA" + "CA" * 40,
        "Row, row, row your boat,\nGently down the stream.\nMerrily, merrily, merrily, merrily,\n"
        * 2,
    ],
)
def test_texts_that_repeat_a_little_do_not_run_in_circles(text: str) -> None:
    assert not runs_in_circles(text)


def test_real_texts_do_not_run_in_circles() -> None:
    paths = [*ROOT.glob("data/*.txt"), *ROOT.glob("charlm/**/*.py"), *ROOT.glob("**/README.md")]
    draw, seen = random.Random(0), 0
    for path in paths:
        text = path.read_text(encoding="utf-8")
        for _ in range(10):
            end = draw.randint(0, len(text))
            assert not runs_in_circles(text[:end]), f"{path} up to {end}: {text[:end][-60:]!r}"
            seen += end > SPAN
    assert seen > 1000
