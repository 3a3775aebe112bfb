"""Matrix products over all rows of a window by the kernels, for the layers and the head."""

import torch
from torch import Tensor

from charlm.native.interface import TYPES, Kernels, rows_at


def autocast_type() -> torch.dtype:
    """Return the type of matrix products: autocast's, else float32."""
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu")
    return torch.float32


def weight_gradient(
    kernels: Kernels, left: Tensor, right: Tensor, result: Tensor, *, rotate: int = 0
) -> Tensor:
    """Fill `result` with left^T right, its rows rotated: left column j gives row (j + rotate)
    mod J. Return the sums of the left columns.

    Shapes: left [rows, J] (its columns contiguous), right [rows, I], result [J, I] and sums [J]
    (float32); J and I whole vectors.
    """
    (rows, J), I = left.shape, right.shape[1]  # noqa: E741
    sums = result.new_empty(J)
    workspace = kernels.acquire((J + I) * kernels.block, dtype=left.dtype)
    kernels.call(
        "weights", TYPES[left.dtype], rows_at(left), left.stride(0), J,
        right, I, I, rows, rotate, result, sums, workspace, torch.get_num_threads(),
    )  # fmt: skip
    kernels.release(workspace)
    return sums


def drop(kernels: Kernels, rows: Tensor, draws: Tensor, threshold: int, result: Tensor) -> None:
    """Fill `result` with `rows`, scaled to the same mean, where a draw is at least `threshold`, and
    with zeros elsewhere.

    Shapes: rows and result [T, B, padded H], draws [T, B, H] (uint8).
    """
    T, B, padded = rows.shape
    kernels.call(
        "drop", TYPES[rows.dtype], rows, draws, T * B, draws.shape[-1], padded, threshold, result,
        torch.get_num_threads(),
    )  # fmt: skip


def rows_product(kernels: Kernels, rows: Tensor, packed: Tensor, result: Tensor) -> None:
    """Fill `result` with rows @ W, W packed for the backward pass.

    Shapes: rows [N, K] (its columns contiguous), result [N, I], W [K, I]; K and I whole vectors.
    """
    (count, K), columns = rows.shape, result.shape[1]
    kernels.call(
        "product", TYPES[rows.dtype], rows_at(rows), rows.stride(0), count, K, packed, columns,
        result, torch.get_num_threads(),
    )  # fmt: skip
