"""Intervals of paired differences: Student's t, and what a single pair can show."""

import math

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
