"""Differences and ratios of paired measurements, with 95 % intervals."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

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
    t = T_975[df - 1] if df <= len(T_975) else 1.95996 + 2.3723 / df + 2.8226 / df**2
    half = t * deviation(differences) / math.sqrt(df + 1)
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
