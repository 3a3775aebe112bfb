"""The kernels of this process: the library of `build`, opened once, and the models it is for.

Importing this does not import torch.
"""

import ctypes
from functools import cache

from charlm.native import build
from charlm.native.build import UnavailableError
from charlm.native.interface import Kernels

SMALLEST = 32
"""Least hidden size for the kernels: on narrower layers they are no faster than torch."""


@cache
def load_library(*, keep: bool = True) -> ctypes.CDLL:
    """Return the library, built if necessary. keep: as for `build.library`.

    Raises: UnavailableError.
    """
    return build.library(_find_error, keep=keep)


def built() -> Kernels | None:
    """Return the kernels if they are compiled, else None."""
    try:
        return Kernels(load_library()) if build.usable(build.cached()) else None
    except UnavailableError:
        return None


def _find_error(library: ctypes.CDLL) -> str:
    from charlm.native.verify import find_error  # here: it imports torch

    return find_error(library)
