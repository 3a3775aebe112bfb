"""Intervals of paired differences: Student's t, and what a single pair can show."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from charlm.comparison.statistics import (
    Z_80,
    Interval,
    _expanded,
    _weights,
    deviation,
    difference,
    interval,
    ratio,
    sign_test,
    smallest_difference,
    two_way,
)


def test_interval_is_the_textbook_one() -> None:
    # Differences 1, 2, 3: mean 2, deviation 1, t(2 df) = 4.303, so 2 +- 4.303 / sqrt(3).
    found = difference([2, 4, 6], [1, 2, 3])
    assert found.mean == pytest.approx(2)
    assert found.high - found.mean == pytest.approx(4.303 / math.sqrt(3), rel=1e-12)
    assert found.mean - found.low == pytest.approx(4.303 / math.sqrt(3), rel=1e-12)


def test_pairs_cancel_what_they_share() -> None:
    found = difference([10.1, 20.2, 30.1], [10.0, 20.0, 30.0])
    assert found.is_above_zero is False
    assert difference([10.1, 20.11, 30.1], [10.0, 20.0, 30.0]).is_above_zero


def test_a_single_pair_shows_nothing() -> None:
    found = difference([5.0], [1.0])
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert not found.is_above_zero
    assert not found.is_below_zero


def test_ratio_is_the_geometric_mean() -> None:
    found = ratio([2.0, 8.0], [1.0, 1.0])
    assert found.mean == pytest.approx(4)
    assert found.low < 1 < 4 < found.high
    found = ratio([6.0, 8.0, 10.0], [3.0, 4.0, 5.0])
    assert (found.mean, found.low, found.high) == pytest.approx((2, 2, 2))
    huge = Interval(0.0, -1e6, 1e6).exp()
    assert (huge.mean, huge.low, huge.high) == (1.0, 0.0, math.exp(700))


@pytest.mark.parametrize(
    ("ahead", "of", "p"), [(0, 5, 0.0625), (5, 5, 0.0625), (1, 6, 0.21875), (3, 6, 1.0)]
)
def test_sign_test_is_the_textbook_one(ahead: int, of: int, p: float) -> None:
    assert sign_test(ahead, of) == p


@pytest.mark.parametrize("compare", [difference, ratio])
def test_pairs_must_be_complete(compare: Callable[..., Interval]) -> None:
    with pytest.raises(ValueError, match="shorter"):
        compare([1.0, 2.0, 3.0], [1.0, 2.0])


def test_deviation_is_that_of_a_sample() -> None:
    assert deviation([3.0]) == 0.0
    assert deviation([1.0, 3.0]) == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize(
    ("df", "t"), [(2, 4.303), (30, 2.042), (31, 2.0395), (60, 2.0003), (120, 1.9799)]
)
def test_quantiles_agree_with_the_tables(df: int, t: float) -> None:
    values = [0.0] * df + [math.sqrt(df + 1)]  # deviation 1
    found = interval(values)
    assert (found.high - found.mean) * math.sqrt(df + 1) == pytest.approx(t, abs=0.0003)


@pytest.mark.parametrize("count", [3, 5, 10, 20])
def test_intervals_hold_the_mean_as_often_as_they_say(count: int) -> None:
    """Of samples of documents, whose bits per character are skewed to the right; intervals of a
    bootstrap by percentiles are too narrow for the smaller ones."""
    rng = np.random.default_rng(0)
    mean, rounds, held, held_by_bootstrap = 3.5, 1000, 0, 0
    for _ in range(rounds):
        sample = mean + 0.13 * (rng.gamma(9, size=count) - 9) / 3  # skewness 0.67
        found = interval(sample.tolist())
        held += found.low <= mean <= found.high
        means = sample[rng.integers(count, size=(400, count))].mean(1)
        low, high = np.quantile(means, [0.025, 0.975])
        held_by_bootstrap += low <= mean <= high
    assert 0.93 < held / rounds < 0.97
    if count <= 10:
        assert held_by_bootstrap / rounds < 0.91
    assert held > held_by_bootstrap


# ---- over seeds and blocks ----------------------------------------------------------------------


def drawn(random: np.random.Generator, seeds: int, shared: Any, noise: float) -> NDArray[Any]:
    """Bits of runs by block: an effect of each seed, one of each block, and noise."""
    own = random.normal(0, 0.01, (seeds, 1))
    return own + shared + random.normal(0, noise, (seeds, len(shared)))


def test_two_way_error_adds_up_the_variances_of_seeds_and_blocks() -> None:
    random = np.random.default_rng(3)
    level, effect = random.normal(2, 0.3, 40), random.normal(0.01, 0.03, 40)
    a, b = drawn(random, 5, level + effect, 0), drawn(random, 4, level, 0)
    found = two_way(a, b, 200_000)
    # Without noise, the three parts are independent: their variances add up.
    parts = [a[:, 0].var(ddof=1) / 5, b[:, 0].var(ddof=1) / 4, effect.var(ddof=1) / 40]
    assert found.standard_error == pytest.approx(math.sqrt(sum(parts)), rel=0.01)
    df = sum(parts) ** 2 / (parts[0] ** 2 / 4 + parts[1] ** 2 / 3 + parts[2] ** 2 / 39)
    assert found.degrees_of_freedom == pytest.approx(df)
    assert found.interval.mean == pytest.approx(a.mean() - b.mean())
    # What all blocks share cancels: the same error for another text as hard as this one is easy.
    assert two_way(a + 5 * level, b + 5 * level).standard_error == pytest.approx(
        two_way(a, b).standard_error
    )


def test_two_way_error_is_that_of_drawing_runs_and_blocks_one_by_one() -> None:
    random = np.random.default_rng(4)
    a, b = drawn(random, 40, np.zeros(60), 0.02), drawn(random, 40, np.zeros(60), 0.02)
    means = []
    for _ in range(4000):
        blocks = random.integers(0, 60, 60)
        means.append(
            a[random.integers(0, 40, 40)][:, blocks].mean()
            - b[random.integers(0, 40, 40)][:, blocks].mean()
        )
    # 40 values widen by 1.3 %; 4,000 draws leave 1.1 %.
    assert two_way(a, b).standard_error == pytest.approx(np.std(means), rel=0.06)


@pytest.mark.parametrize("seeds", [3, 5])
def test_two_way_interval_holds_the_true_difference(seeds: int) -> None:
    random = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        level = random.normal(2, 0.3, 50)
        a = drawn(random, seeds, level + random.normal(0, 0.03, 50), 0.02)
        found = two_way(a, drawn(random, seeds, level, 0.02), 500).interval
        held += found.low <= 0 <= found.high
    assert 180 <= held <= 199  # of 200: 95 % and 3 deviations


def test_two_way_shows_the_smallest_difference_in_four_of_five_comparisons() -> None:
    random = np.random.default_rng(6)
    true = math.sqrt(2 * 0.01**2 / 5) * (2.306 + 0.889)  # t of 8 degrees, from the usual tables
    shown, sizes = 0, []
    for _ in range(300):
        a, b = (drawn(random, 5, np.zeros(50), 0) for _ in range(2))
        found = two_way(a + true, b, 500)
        shown += found.interval.is_above_zero
        sizes.append(found.smallest_difference)
    assert 0.72 <= shown / 300 <= 0.87
    # A little above: of unlike spreads, Satterthwaite's degrees of freedom are fewer than 8.
    assert 0.97 * true < np.sqrt(np.mean(np.square(sizes))) < 1.1 * true


@pytest.mark.parametrize("shape", [(2, 50), (50, 2)])
def test_two_seeds_or_blocks_show_nothing(shape: tuple[int, int]) -> None:
    found = two_way(np.ones(shape), np.zeros(shape))
    assert found.interval.is_open
    assert found.interval.mean == 1
    assert (found.degrees_of_freedom, found.smallest_difference) == (0.0, math.inf)
    assert math.isnan(found.standard_error)
    assert smallest_difference(2, 0.01) is None


def test_three_seeds_and_blocks_are_enough() -> None:
    random = np.random.default_rng(7)
    found = two_way(random.normal(1, 0.1, (3, 3)), random.normal(0, 0.1, (3, 3)), 500)
    assert not found.interval.is_open
    assert found.interval.low < 1 < found.interval.high


def test_resampled_weights_are_widened_about_the_same_mean() -> None:
    weights = _weights(np.random.default_rng(8), 5, 20_000)
    assert weights.sum(1) == pytest.approx(1)
    drawn = (weights - 0.2) / math.sqrt(5 / 4) + 0.2
    assert np.unique((5 * drawn).round(6)).tolist() == [0, 1, 2, 3, 4, 5]
    assert weights.std(0) == pytest.approx(math.sqrt(0.2 * 0.8 / 5 * 5 / 4), rel=0.03)


@pytest.mark.parametrize(("df", "t"), [(6, 0.9057), (10, 0.8791), (20, 0.8600), (60, 0.8477)])
def test_quantiles_of_the_power_agree_with_the_tables(df: int, t: float) -> None:
    """Student's t at 0.80, to the four digits of the tables."""
    assert _expanded(Z_80, df) == pytest.approx(t, abs=2e-4)


def test_expansion_has_the_terms_of_its_source() -> None:
    """Abramowitz and Stegun 26.7.5 at z = 2, by hand: 10 / 4 and (160 + 128 + 6) / 96."""
    assert _expanded(2.0, 10) == pytest.approx(2 + 0.25 + 3.0625 / 100, rel=1e-12)


@pytest.mark.parametrize(
    ("seeds", "t"), [(3, 4.303 + 1.061), (5, 2.776 + 0.941), (9, 2.306 + 0.889)]
)
def test_expected_smallest_difference_is_the_textbook_one(seeds: int, t: float) -> None:
    expected = t * 0.02 * math.sqrt(2 / seeds)
    assert smallest_difference(seeds, 0.02) == pytest.approx(expected, rel=0.002)


def test_blocks_are_those_of_the_scores(finished: tuple[Path, Path, dict[str, Any]]) -> None:
    result = finished[2]
    rows = {row["cell"]: row for row in result["rows"]}
    for run in result["runs"]:
        at = result["seeds"].index(run["seed"])
        value = rows[run["cell"]]["bits_per_character"]["values"][at]
        assert len(run["blocks"]) == 50
        assert np.mean(run["blocks"]) == pytest.approx(value, abs=1e-4)
        assert np.std(run["blocks"]) > 0
    for pair in result["differences"]:
        assert pair["two_way"]["mean"] == pytest.approx(pair["mean"], abs=1e-4)
        assert (pair["two_way"]["low"], pair["two_way"]["shown"]) == (None, False)  # two seeds
    assert result["plan"]["smallest_difference"]["bits_per_character"] is None
