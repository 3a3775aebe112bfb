"""A model's weights as JSON for a page: base64 of float32, or of 8-bit integers with a scale a row.

Symbols: R rows, C columns.
"""

import base64
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Precision = Literal["float32", "int8"]


def packed(weights: Mapping[str, NDArray[np.float32]], precision: Precision) -> dict[str, Any]:
    """Return every weight as {"shape", "values", "scales"}; without scales the values are float32.

    In "int8" the matrices are rounded, each row to multiples of its scale; the biases are not.
    """
    return {name: _entry(weight, precision) for name, weight in weights.items()}


def _entry(weight: NDArray[np.float32], precision: Precision) -> dict[str, Any]:
    if precision == "float32" or weight.ndim < 2:
        return {"shape": weight.shape, "values": _base64(weight.astype("<f4"))}
    small, scales = rounded(weight)
    return {"shape": weight.shape, "values": _base64(small), "scales": _base64(scales)}


def rounded(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a matrix to 8 bits. Shapes: [R, C] -> [R, C] and the scales, [R]."""
    scales = np.maximum(np.abs(matrix).max(1), np.float32(1e-30)) / np.float32(127)
    return np.rint(matrix / scales[:, None]).astype(np.int8), scales.astype("<f4")


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
