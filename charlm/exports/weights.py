"""A model's weights as JSON for a page: float32, or 8-bit integers with a scale a row.

Symbols: R rows, C columns.
"""

import base64
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Precision = Literal["float32", "int8"]


def packed(
    weights: Mapping[str, NDArray[np.float32]],
    precision: Precision,
    file: bytearray | None = None,
) -> dict[str, Any]:
    """Return every weight as {"shape", "values", "scales"}; without scales the values are float32.

    In "int8" the matrices are rounded, each row to multiples of its scale; the biases are not.
    file: values and scales are appended to it and are [from, to], places in it; else base64.
    """
    put = _base64 if file is None else partial(_appended, file)
    return {name: _entry(weight, precision, put) for name, weight in weights.items()}


def _entry(
    weight: NDArray[np.float32], precision: Precision, put: Callable[[NDArray[Any]], object]
) -> dict[str, Any]:
    if precision == "float32" or weight.ndim < 2:
        return {"shape": weight.shape, "values": put(weight.astype("<f4"))}
    small, scales = rounded(weight)
    return {"shape": weight.shape, "values": put(small), "scales": put(scales)}


def rounded(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a matrix to 8 bits. Shapes: [R, C] -> [R, C] and the scales, [R]."""
    scales = np.maximum(np.abs(matrix).max(1), np.float32(1e-30)) / np.float32(127)
    return np.rint(matrix / scales[:, None]).astype(np.int8), scales.astype("<f4")


def _appended(file: bytearray, values: NDArray[Any]) -> list[int]:
    start = len(file)
    file += np.ascontiguousarray(values).tobytes()
    return [start, len(file)]


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
