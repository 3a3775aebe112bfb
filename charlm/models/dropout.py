"""Dropout with randomness derived from a seed: the same on every device and in every backend.

Outputs of layers are dropped anew at every symbol, elements of W_hh once for a window: DropConnect
(Wan et al. 2013, "Regularization of Neural Networks using DropConnect"), of recurrent weights as in
Merity, Keskar and Socher 2018 (arXiv 1708.02182), section 2.

Every lane has random bytes of its own, so it does not depend on which other lanes are computed with
it. The share that is dropped is `rate` rounded to 1/256, because one random byte per element
decides; a random number per element took a tenth of a training step. (Seeding torch's generator
for every lane took twice as long as one for all; a counter-based generator needs no seeding.)
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

GAMMA = np.uint64(0x9E3779B97F4A7C15)
"""The increment of SplitMix64: 2^64 / the golden ratio, made odd."""
MULTIPLIERS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)
WORD = 8
"""Bytes of one random number."""
WEIGHT_SEED_OFFSET = 128
"""Offset of the seeds for W_hh; those for outputs are the seed plus 0 to 31."""


@dataclass(frozen=True)
class Drop:
    """The draw of one step's dropout. lanes: the numbers of the lanes; None counts them from 0."""

    seed: int
    lanes: range | None = None


def threshold(rate: float) -> int:
    """Return the least random byte that keeps its element."""
    return round(rate * 256)


def random_bytes(
    seed: int, layer: int, shape: tuple[int, ...], lanes: range | None = None
) -> Tensor:
    """Draw a byte for every output of a layer, on the CPU.

    lanes: the numbers of the lanes among all of the training; None counts them from 0.

    Shapes: the result is `shape`, [T, B, H], uint8.
    """
    T, B, H = shape
    lanes = range(B) if lanes is None else lanes
    assert len(lanes) == B
    words = -(-H // WORD)
    key = _mixed(np.array([seed + layer], np.uint64) * GAMMA)
    keys = _mixed(key + np.arange(lanes.start + 1, lanes.stop + 1, dtype=np.uint64) * GAMMA)
    counts = np.arange(1, T * words + 1, dtype=np.uint64) * GAMMA
    draws = _mixed(counts.reshape(T, 1, words) + keys[:, None])
    return torch.from_numpy(draws).view(torch.uint8)[..., :H].contiguous()


def weight_bytes(seed: int, layer: int, shape: tuple[int, ...]) -> Tensor:
    """Draw a byte for every element of a layer's W_hh, whose rows take the place of lanes.

    Shapes: the result is `shape`, [rows, columns], uint8, on the CPU.
    """
    return random_bytes(seed + WEIGHT_SEED_OFFSET, layer, (1, *shape))[0]


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Mix the bits of numbers, in place.

    Source: Steele, Lea and Flood 2014 (doi 10.1145/2660193.2660195), the finalizer of SplitMix64.
    """
    shifted = np.empty_like(numbers)
    for shift, multiplier in zip(SHIFTS, MULTIPLIERS, strict=False):
        numbers ^= np.right_shift(numbers, shift, out=shifted)
        numbers *= multiplier
    numbers ^= np.right_shift(numbers, SHIFTS[-1], out=shifted)
    return numbers


def drop(x: Tensor, mask: Tensor, rate: float) -> Tensor:
    """Set elements outside the mask to zero, and scale the rest to the same mean."""
    return (x * mask.to(x.dtype)) * (256 / (256 - threshold(rate)))
