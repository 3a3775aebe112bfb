"""Differences and ratios of paired measurements, with 95 % intervals."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Student's t at 0.975 by degrees of freedom, from the usual tables. Beyond the last, the expansion
# in 1/df (Abramowitz and Stegun 26.7.5) is within 0.0002 of it.
T_975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


METHODS = [
    "validation selects the checkpoint of every run; its best bits per character are compared",
    "spread: mean and standard deviation over the seeds",
    "difference of each pair of cells: paired by seed, 95 % interval by Student's t",
    "the same over seeds and blocks of the validation split: two-way bootstrap, 10,000 resamples, "
    "seeds of each cell drawn independently, blocks drawn for both alike; 95 % interval by "
    "Student's t with Satterthwaite's degrees of freedom",
    "test split, if there is one: each run scored once, after all choices",
    "smallest difference shown in 80 of 100 such comparisons, at 95 %",
]
"""The statistics of a comparison, as stated in its plan."""
ENOUGH = 3
"""Fewest measurements for a useful interval: with two, Student's t is 12.7."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % confidence interval.

    With fewer than `ENOUGH` measurements the bounds are infinite: they show nothing.
    """

    mean: float
    low: float
    high: float

    @property
    def is_open(self) -> bool:
        """True if there were too few measurements for bounds."""
        return math.isinf(self.low)

    @property
    def is_below_zero(self) -> bool:
        return self.high < 0

    @property
    def is_above_zero(self) -> bool:
        return self.low > 0

    def exp(self) -> "Interval":
        """Return the interval of a ratio from the interval of its logarithm."""
        if self.is_open:
            return Interval(math.exp(self.mean), -math.inf, math.inf)
        return Interval(*(math.exp(min(x, 700.0)) for x in (self.mean, self.low, self.high)))


def deviation(values: Sequence[float]) -> float:
    """Return the standard deviation of a sample; 0 for a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def interval(differences: Sequence[float]) -> Interval:
    """Return the interval of the mean of `differences`, by Student's t."""
    mean, df = statistics.fmean(differences), len(differences) - 1
    if len(differences) < ENOUGH:
        return Interval(mean, -math.inf, math.inf)
    half = t_975(df) * deviation(differences) / math.sqrt(df + 1)
    return Interval(mean, mean - half, mean + half)


def difference(ones: Sequence[float], others: Sequence[float]) -> Interval:
    """Return the interval of `ones` minus `others`, pair by pair."""
    return interval([a - b for a, b in zip(ones, others, strict=True)])


def ratio(ones: Sequence[float], others: Sequence[float]) -> Interval:
    """Return the interval of the geometric mean of `ones` over `others`, pair by pair.

    All must be positive.
    """
    logs = [math.log(a / b) for a, b in zip(ones, others, strict=True)]
    return interval(logs).exp()


def sign_test(ahead: int, of: int) -> float:
    """Return the two-sided p-value of a sign test: `ahead` of `of` pairs on one side, no ties."""
    tail = sum(math.comb(of, count) for count in range(min(ahead, of - ahead) + 1))
    return min(1.0, math.ldexp(tail, 1 - of))


# ---- over seeds and blocks of the text ----------------------------------------------------------

Floats = NDArray[np.float64]
RESAMPLES, RESAMPLING_SEED = 10_000, 0
Z_80 = 0.84162
"""The normal quantile of the power, 80 %."""
ASSUMED_DEVIATION = 0.01
"""Bits per character: standard deviation over seeds, assumed before any run has been made."""


@dataclass(frozen=True)
class TwoWay:
    """A difference over seeds and blocks. standard_error: by the bootstrap. smallest_difference:
    the one that the design shows in 80 of 100 comparisons; infinite with fewer than `ENOUGH` seeds.
    """

    interval: Interval
    standard_error: float
    degrees_of_freedom: float
    smallest_difference: float


def two_way(ones: Floats, others: Floats, resamples: int = RESAMPLES) -> TwoWay:
    """Return the interval of the mean of `ones` minus that of `others`, over seeds and blocks.

    The standard error is that of the pigeonhole bootstrap: seeds and blocks are resampled together,
    the seeds of either side independently, the blocks of both sides alike. Deviations are widened
    by sqrt(n / (n - 1)), since a sample of n is narrower than its population. Degrees of freedom
    are Satterthwaite's, of both sides' seeds and of the blocks. Percentiles would be too narrow: of
    100 simulated comparisons of three or five seeds, they held the true difference in 81 to 95,
    this interval in 94 to 97.

    Shapes: [seeds, blocks], with as many blocks. Sources: Owen, The pigeonhole bootstrap, Annals of
    Applied Statistics 2007; Hesterberg, The American Statistician 2015 (narrowness); Satterthwaite,
    Biometrics 1946.
    """
    mean = float(ones.mean() - others.mean())
    if min(len(ones), len(others)) < ENOUGH or ones.shape[1] < ENOUGH:
        return TwoWay(Interval(mean, -math.inf, math.inf), math.nan, 0.0, math.inf)
    random = np.random.default_rng(RESAMPLING_SEED)
    blocks = _weights(random, ones.shape[1], resamples)
    sides = [
        ((_weights(random, len(side), resamples) @ side) * blocks).sum(1) for side in (ones, others)
    ]
    error = float((sides[0] - sides[1]).std(ddof=1))
    parts = [ones.mean(1), others.mean(1), ones.mean(0) - others.mean(0)]
    variances = [float(part.var(ddof=1)) / len(part) for part in parts]
    divisor = sum(v**2 / (len(part) - 1) for v, part in zip(variances, parts, strict=True))
    df = sum(variances) ** 2 / divisor if divisor else float(len(ones) - 1)
    half = t_975(int(df)) * error
    smallest = (t_975(int(df)) + _expanded(Z_80, int(df))) * error
    return TwoWay(Interval(mean, mean - half, mean + half), error, df, smallest)


def smallest_difference(seeds: int, deviation: float) -> float | None:
    """Return the difference that pairs of seeds show in 80 of 100 comparisons; None with fewer than
    `ENOUGH` seeds.

    deviation: standard deviation of a cell over the seeds, independent of the other cell's.
    """
    if seeds < ENOUGH:
        return None
    quantiles = t_975(seeds - 1) + _expanded(Z_80, seeds - 1)
    return quantiles * deviation * math.sqrt(2 / seeds)


def _weights(random: np.random.Generator, count: int, resamples: int) -> Floats:
    """Draw weights of `count` values that were resampled, widened about 1 / count.

    Shapes: [resamples, count]; each row adds up to 1.
    """
    drawn = random.multinomial(count, np.full(count, 1 / count), size=resamples) / count
    return np.asarray(1 / count + (drawn - 1 / count) * math.sqrt(count / (count - 1)))


def t_975(df: int) -> float:
    """Return Student's t at 0.975 for a number of degrees of freedom, at least 1."""
    return T_975[df - 1] if df <= len(T_975) else 1.95996 + 2.3723 / df + 2.8226 / df**2


def _expanded(z: float, df: int) -> float:
    """Return Student's quantile from the normal one, by the expansion in 1/df (see `T_975`)."""
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / df + second / df**2
