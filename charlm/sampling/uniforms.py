"""Uniform random numbers for sampling: those of torch's generator on the CPU, by numpy."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 32
"""Rows drawn at a time."""


def uniforms(seed: int, num: int) -> Iterator[NDArray[np.float64]]:
    """Draw endless rows of `num` uniform numbers in [0, 1), the same on any device.

    They are those of `torch.rand` in float64 from a `torch.Generator` with that seed: both are the
    Mersenne Twister of Matsumoto and Nishimura 1998, seeded with the low 32 bits; a number is the
    low 53 bits of two draws, the first of which is the upper one.
    """
    draw = np.random.RandomState(seed & 0xFFFFFFFF)
    while True:
        pairs = np.frombuffer(draw.bytes(8 * AT_ONCE * num), "<u4").reshape(AT_ONCE, num, 2)
        joined = (pairs[..., 0].astype(np.uint64) << np.uint64(32)) | pairs[..., 1]
        yield from (joined & np.uint64(2**53 - 1)) * 2.0**-53
