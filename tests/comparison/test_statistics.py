"""Intervals of paired differences: Student's t, and what a single pair can show."""

import math

import numpy as np
import pytest

from charlm.comparison.statistics import difference, interval, ratio


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
