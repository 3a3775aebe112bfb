"""Expected best of n trials of a random search, estimated from all its trials.

The trials are independent draws, so n of them are a search of n trials, and the mean over all
choices of n estimates its result without bias. (Resampling with replacement counts the same trial
twice and is biased, which is why Tang et al. 2020 advise against it.) An adaptive search cannot be
cut to n trials in this way.

Sources: Dodge et al. 2019 (arXiv 1909.03004) for the curve; Tang et al. 2020 (arXiv 2004.13705)
for the estimator without bias.
"""

import math
from collections.abc import Sequence

import numpy as np

from charlm.comparison.statistics import ENOUGH, Floats, Interval, t_975

HALVES, SEED = 2000, 0
LEAST_FREEDOM = 3
"""Fewest degrees of freedom of an interval, if there are as many trials."""
METHODS = [
    "expected best of n random trials: the mean over all choices of n trials, without replacement; "
    "a trial that diverged, or predicts worse than a uniform guess, counts as a uniform guess",
    "its interval, nominally 95 %, over the draw of the trials: Student's t with trials / n - 1 "
    f"degrees of freedom, at least {LEAST_FREEDOM}, and the standard error of the jackknife with "
    f"half of the trials deleted, {HALVES:,} random halves; its upper end does not rise with n; "
    f"none with fewer than {ENOUGH} trials",
    "difference of expected bests, of the best cell and each other: halves of the same points for "
    "both, interval likewise",
]
"""The statistics of a random search, as stated in the plan."""


def expected_best(trials: Sequence[float]) -> list[Interval]:
    """Return the expected lowest bits of 1, 2, ... len(trials) trials, each with its interval.

    The variance is that of the estimate over random halves of the trials: the jackknife with half
    of them deleted, because with one deleted the lowest rests on a single gap. (Shao and Wu, Annals
    of Statistics 1989, on deleting more than one; for large samples, so coverage was simulated.)
    The interval is Student's, with trials / n - 1 degrees of freedom, at least `LEAST_FREEDOM`; its
    upper end does not rise with n, because the best of more trials is not worse, and its lower end
    is at least 0. With fewer than `ENOUGH` trials it is open.

    The rule was chosen by simulations. On six populations that had no part in that choice, among
    them the measured bits of three cells by rate, it held the true value in 82 to 99 of 100
    searches of 8, 16 or 32 trials: least for 1 or 2 trials and a long tail of bad ones. Where three
    of ten trials fail outright it held it in 59 at 3 of 8, because eight show little of that share.
    (`tests/benchmarks/best_of_trials.py` prints these figures.)
    """
    intervals = _intervals(_best(np.array([trials])), _of_halves(trials))
    if len(trials) < ENOUGH:
        return intervals
    highest = np.minimum.accumulate([one.high for one in intervals])
    return [
        Interval(one.mean, max(0.0, one.low), float(high))
        for one, high in zip(intervals, highest, strict=True)
    ]


def best_difference(ones: Sequence[float], others: Sequence[float]) -> list[Interval]:
    """Return the expected lowest of n of `ones` minus that of `others`, each with its interval.

    Trials at the same place are of the same point, so halves are drawn for both alike, and the luck
    of the points cancels out. On the populations of `expected_best` intervals held the true
    difference in 89 to 99 of 100; where trials fail outright, in 45 at 3 of 8.
    """
    best = _best(np.array([ones])) - _best(np.array([others]))
    return _intervals(best, _of_halves(ones) - _of_halves(others))


def _best(samples: Floats) -> Floats:
    """Estimate the expected lowest of 1, 2, ... N values, from each sample of N.

    Of all choices of n from N values, the share C(N - i, n - 1) / C(N, n) has the i-th smallest as
    its lowest. Shapes: [samples, N]; the same.
    """
    count = samples.shape[1]
    shares = [
        [math.comb(count - i, n - 1) / math.comb(count, n) for n in range(1, count + 1)]
        for i in range(1, count + 1)
    ]
    return np.asarray(np.sort(samples, axis=1) @ np.array(shares))


def _of_halves(trials: Sequence[float]) -> Floats:
    """Estimate the expected lowest of n from random halves of the trials, the same at every call.

    More trials than a half has are taken as all of the half. Shapes: [HALVES, len(trials)].
    """
    count = len(trials)
    order = np.argsort(np.random.default_rng(SEED).random((HALVES, count)), axis=1)
    best = _best(np.array(trials)[order[:, : count - count // 2]])
    return best[:, np.minimum(np.arange(count), best.shape[1] - 1)]


def _intervals(best: Floats, halves: Floats) -> list[Interval]:
    """Return the intervals of estimates from those of random halves.

    Shapes: [1, N]; [HALVES, N].
    """
    count = best.shape[1]
    if count < ENOUGH:
        return [Interval(float(mean), -math.inf, math.inf) for mean in best[0]]
    kept = count - count // 2
    errors = halves.std(axis=0) * math.sqrt(kept / (count - kept))
    result = []
    for n, (mean, error) in enumerate(zip(best[0], errors, strict=True), start=1):
        freedom = min(max(count // n - 1, LEAST_FREEDOM), count - 1)
        half = t_975(freedom) * float(error)
        result.append(Interval(float(mean), float(mean) - half, float(mean) + half))
    return result
