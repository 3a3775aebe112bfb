"""Simulate how often intervals of the expected best of n trials hold the true value.

    python tests/benchmarks/best_of_trials.py [--rounds 600]

Each population is of pairs of cells, tried at the same points. None had a part in the choice of the
rule of `charlm.comparison.expected_best`. Printed: searches of 100 whose interval holds the true
value, rounded down, the least and the most over n = 1, 2, ... trials. The last population, where
three of ten trials fail outright, shows a limit of the rule.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from charlm.comparison.expected_best import best_difference, expected_best
from charlm.comparison.statistics import Interval

Floats = NDArray[np.float64]
Pair = tuple[Floats, Floats]
Pairs = Callable[[np.random.Generator, int], Mapping[str, Pair]]

OCTAVES = [-3, -2, -1, 0, 1, 2, 3]
LSTM = [2.417, 2.277, 2.168, 2.117, 2.099, 2.099, 2.157]
RNN = [2.316, 2.222, 2.200, 2.281, 2.585, 3.642, 4.696]
MINGRU = [2.791, 2.679, 2.609, 2.565, 2.557, 2.613, 2.771]
"""Bits per character by octaves from the preset's learning rate: `configs/compare.toml` on
tinyshakespeare, one seed."""
POPULATION = 400_000
COUNTS = (8, 16, 32)
UNIFORM = 6.6
"""Bits of a trial that fails."""


def six(random: np.random.Generator, count: int) -> Mapping[str, Pair]:
    """Draw trials of the populations by which the rule was judged."""
    uniform, noise = random.random((count, 3)), random.standard_normal((2, count))
    rate = 6 * (uniform[:, 0] - 0.5)
    dropout = np.where(uniform[:, 1] < 0.5, 0, 0.25 * (2 * uniform[:, 1] - 1))

    def measured(bits: Sequence[float], harm: float, own: Floats) -> Floats:
        return np.interp(rate, OCTAVES, bits) + harm * dropout + 0.005 * own

    one, other = 0.01 * noise
    valleys = np.minimum((rate - 2) ** 2, 0.1 + (rate + 2) ** 2)
    return {
        "measured, lstm and rnn": (
            measured(LSTM, 0.17, noise[0]),
            measured(RNN, 0.5, noise[1]),
        ),
        "measured, lstm and mingru": (
            measured(LSTM, 0.17, noise[0]),
            measured(MINGRU, 0.17, noise[1]),
        ),
        "sharp valleys": (
            2.1 + 0.08 * np.abs(rate - 0.7) + one,
            2.12 + 0.08 * np.abs(rate + 0.7) + other,
        ),
        "two valleys": (2.1 + 0.05 * valleys + one, 2.1 + 0.05 * (rate - 1) ** 2 + other),
        "lognormal": (2 + 0.1 * np.exp(noise[0]), 2.02 + 0.1 * np.exp(noise[1])),
        "beta": (2 + random.beta(2, 5, count), 2.1 + random.beta(2, 5, count)),
    }


def failing(random: np.random.Generator, count: int) -> Mapping[str, Pair]:
    """Draw trials of cells of which three and two of ten fail, at the highest rates."""
    uniform, noise = random.random((count, 2)), random.standard_normal((2, count))
    rate, dropout = 6 * (uniform[:, 0] - 0.5), 0.25 * uniform[:, 1]
    ones = 2.1 + 0.03 * rate**2 + 0.4 * dropout + 0.01 * noise[0]
    others = 2.1 + 0.03 * (rate - 0.5) ** 2 + 0.4 * dropout + 0.01 * noise[1]
    return {"failing": (np.where(rate > 1.2, UNIFORM, ones), np.where(rate > 1.8, UNIFORM, others))}


def true_best(population: Floats, count: int) -> Floats:
    """Return the expected lowest of 1, 2, ... draws."""
    above = 1 - np.arange(len(population) + 1) / len(population)
    ordered = np.sort(population)
    return np.array([-np.diff(above**n) @ ordered for n in range(1, count + 1)])


def holds(found: Sequence[Interval], true: Floats) -> Floats:
    """Return 1 where the interval holds the true value, else 0."""
    inside = [one.low <= value <= one.high for one, value in zip(found, true, strict=True)]
    return np.array(inside, float)


def simulate(pairs: Pairs, counts: Sequence[int], rounds: int, seed: int) -> None:
    """Print the least and the most, and the number of trials at which it is least."""
    random = np.random.default_rng(seed)
    populations = pairs(random, POPULATION)
    for count in counts:
        true = {
            name: [true_best(side, count) for side in pair] for name, pair in populations.items()
        }
        held = {name: np.zeros((3, count)) for name in populations}
        for _ in range(rounds):
            for name, (ones, others) in pairs(random, count).items():
                one, other = true[name]
                held[name] += [
                    holds(expected_best(ones.tolist()), one),
                    holds(expected_best(others.tolist()), other),
                    holds(best_difference(ones.tolist(), others.tolist()), one - other),
                ]
        for name, sums in held.items():
            shares = np.floor(100 * sums / rounds)
            listed = "   ".join(
                f"{row.min():3.0f} to {row.max():3.0f}, least at {row.argmin() + 1:2}"
                for row in shares
            )
            print(f"{count:2} trials, {name:26}{listed}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=600)
    rounds = parser.parse_args().rounds
    print(f"{'':38}{'one':27}{'other':27}difference")
    simulate(six, COUNTS, rounds, seed=20260101)
    simulate(failing, COUNTS[:1], rounds, seed=5)


if __name__ == "__main__":
    main()
