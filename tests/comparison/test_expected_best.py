"""The expected best of n random trials: exact, without bias, and with intervals that hold it."""

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from statistics import fmean

import numpy as np
import pytest
from numpy.typing import NDArray

from charlm.comparison.expected_best import best_difference, expected_best

Floats = NDArray[np.float64]
Searches = Callable[[np.random.Generator, int], tuple[Floats, Floats]]


@pytest.mark.parametrize("count", [2, 3, 7, 10])
def test_estimate_is_the_mean_over_all_choices(count: int) -> None:
    trials = np.random.default_rng(count).gamma(2, size=count).tolist()
    trials[-1] = trials[0]  # a tie
    means = [one.mean for one in expected_best(trials)]
    by_hand = [fmean(map(min, itertools.combinations(trials, n + 1))) for n in range(count)]
    assert means == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("count", [8, 100])
def test_estimate_agrees_with_the_chance_that_all_lie_above(count: int) -> None:
    """The mean of a minimum is the sum of all gaps, each by the chance that it lies below."""
    trials = np.random.default_rng(1).integers(1, 10**6, size=count).tolist()
    ordered = sorted(map(Fraction, trials))
    for n, found in enumerate(expected_best(trials), start=1):
        mean = ordered[0] + sum(
            (ordered[at] - ordered[at - 1])
            * Fraction(math.comb(count - at, n), math.comb(count, n))
            for at in range(1, count)
        )
        assert found.mean == pytest.approx(float(mean), rel=1e-12)


def test_estimate_has_no_bias_and_resampling_with_replacement_has() -> None:
    count, rounds = 8, 4000
    random = np.random.default_rng(2)
    samples = random.exponential(size=(rounds, count))  # the best of n is 1 / n in the mean
    means = np.array([[one.mean for one in expected_best(sample)] for sample in samples]).mean(0)
    n = np.arange(1, count + 1)
    assert means == pytest.approx(1 / n, abs=4 / math.sqrt(rounds) / count**0.5)
    assert means[-1] == pytest.approx(1 / count, abs=0.01)
    above = 1 - np.arange(count) / count
    with_replacement = above**count - (above - 1 / count) ** count
    assert (np.sort(samples) @ with_replacement).mean() > 1 / count + 0.05


def bowl(random: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    """Draw trials of two cells: the bits depend on rate and dropout, with noise."""
    rate, dropout = random.uniform(-3, 3, count), random.uniform(0, 0.25, count)
    noise = random.normal(0, 0.01, (2, count))
    ones = 2.1 + 0.03 * rate**2 + 0.4 * dropout + noise[0]
    return ones, 2.1 + 0.04 * (rate + 1) ** 2 + 0.4 * dropout + noise[1]


def line(random: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    place, other = random.random((2, count))
    return 2 + place, 2.1 + 0.8 * place + 0.1 * other


def noise(random: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    ones, others = random.normal(2.1, 0.01, (2, count))
    return ones, others + 0.01


def true_best(population: Floats, count: int) -> Floats:
    """Return the expected lowest of 1, 2, ... draws of a large population."""
    above = 1 - np.arange(len(population) + 1) / len(population)
    shares = [-np.diff(above**n) for n in range(1, count + 1)]
    return np.array(shares) @ np.sort(population)


@pytest.mark.parametrize("count", [8, 16])
@pytest.mark.parametrize("searches", [bowl, line, noise])
def test_intervals_hold_the_true_best(searches: Searches, count: int) -> None:
    rounds, random = 300, np.random.default_rng(3)
    true = [true_best(one, count) for one in searches(random, 200_000)]
    held, held_difference, held_by_bootstrap = np.zeros(count), np.zeros(count), 0
    for _ in range(rounds):
        ones, others = searches(random, count)
        held += [i.low <= t <= i.high for i, t in zip(expected_best(ones), true[0], strict=True)]
        difference = zip(best_difference(ones, others), true[0] - true[1], strict=True)
        held_difference += [i.low <= t <= i.high for i, t in difference]
        lowest = ones[random.integers(count, size=(200, count))].min(1)
        low, high = np.quantile(lowest, [0.025, 0.975])
        held_by_bootstrap += low <= true[0][-1] <= high
    assert (held / rounds).min() > 0.86
    assert (held_difference / rounds).min() > 0.91
    assert held_by_bootstrap / rounds < 0.75  # percentiles, for the best of all


def test_intervals_of_few_failures_are_known_to_be_too_narrow() -> None:
    """Show that eight trials say little of the best of three, where three of ten trials fail."""
    rounds, random = 300, np.random.default_rng(4)

    def failing(count: int) -> Floats:
        ones, _ = bowl(random, count)
        return np.where(random.random(count) < 0.3, 6.6, ones)

    true, held = true_best(failing(200_000), 8), np.zeros(8)
    for _ in range(rounds):
        found = expected_best(failing(8))
        held += [i.low <= t <= i.high for i, t in zip(found, true, strict=True)]
    assert 0.4 < held[2] / rounds < 0.7
    assert held[-1] / rounds > 0.9


def test_interval_of_the_same_points_leaves_out_their_luck() -> None:
    random = np.random.default_rng(5)
    ones, _ = bowl(random, 16)
    paired = best_difference(ones, ones + 0.02)
    assert [one.mean for one in paired] == pytest.approx([-0.02] * 16)
    assert all(one.is_below_zero and one.high - one.low < 1e-9 for one in paired)
    shuffled = best_difference(ones, random.permutation(ones) + 0.02)
    assert not any(one.is_below_zero for one in shuffled)


def test_upper_end_does_not_rise_with_the_budget() -> None:
    found = expected_best([2.0, 2.001, 2.5, 3.0, 3.1, 2.4, 2.2, 6.0])
    highs = [one.high for one in found]
    assert highs == sorted(highs, reverse=True)
    assert [one.mean for one in found] == sorted((one.mean for one in found), reverse=True)
    assert all(one.low <= one.mean <= one.high for one in found)
    assert expected_best([0.1, 0.5, 3.0])[0].low == 0


def test_two_trials_give_no_interval() -> None:
    found = [*expected_best([2.0, 3.0]), *best_difference([2.0, 3.0], [2.5, 2.6])]
    assert all(one.is_open for one in found)
    assert [one.mean for one in found] == pytest.approx([2.5, 2.0, -0.05, -0.5])
