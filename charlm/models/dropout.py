"""Dropout whose randomness is derived from a seed: alike on every device and in every backend.

The share that is dropped is `rate` rounded to 1/256, because a random byte an element decides; a
random number an element took a tenth of a training step.
"""

import math

import torch
from torch import Tensor


def threshold(rate: float) -> int:
    """Return the first random byte that keeps its element."""
    return round(rate * 256)


def random_bytes(seed: int, layer: int, shape: tuple[int, ...]) -> Tensor:
    """Draw a byte for every output of a layer, on the CPU. Shapes: the result is `shape`, uint8."""
    count = math.prod(shape)
    generator = torch.Generator().manual_seed(seed + layer)
    words = torch.empty((count + 7) // 8, dtype=torch.int64)
    draws = words.random_(-(2**63), None, generator=generator).view(torch.uint8)
    return draws[:count].view(shape)


def drop(x: Tensor, mask: Tensor, rate: float) -> Tensor:
    """Zero what the mask does not keep, and scale the rest up to the same mean."""
    return (x * mask.to(x.dtype)) * (256 / (256 - threshold(rate)))
