"""The head and its loss: the logits of a window are never kept.

Symbols: H hidden size (padded to whole vectors), V vocabulary size (likewise).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.native.interface import TYPES, Kernels
from charlm.native.products import library_is_faster, rows_product, weight_gradient


@dataclass(frozen=True)
class SoftTargets:
    """What is to be predicted beside the symbols that came, with `weight` of the whole.

        loss = (1 - weight) (-ln p(target)) - weight sum_s q(s) ln p(s)

    Shapes: probabilities q [T, B, V]. Source: Hinton et al. 2015 (arXiv 1503.02531), temperature 1.
    """

    probabilities: Tensor
    weight: float

    def mix_into(self, gradient: Tensor, targets: Tensor, first: int, scale: float) -> None:
        """Turn the gradient by the logits of some rows, (p - target) * scale, into the mixed one.

        first: the number of the first row. Shapes: gradient [rows, V or more], targets [rows].
        """
        count, share = len(targets), self.weight * scale
        probabilities = self.probabilities.flatten(0, 1)[first : first + count]
        gradient[:, : probabilities.shape[1]] -= share * probabilities
        gradient[torch.arange(count), targets] += share


NEVER = -1e30
"""The logit of what pads the last vector of the vocabulary."""
LONG = 256
"""Symbols of a vocabulary from which on torch's products are faster than the kernels'."""
ROWS = 256
"""Rows whose logits are there at a time, of a long vocabulary."""


def head_loss(
    kernels: Kernels,
    head: nn.Linear,
    x: Tensor,
    targets: Tensor,
    *,
    training: bool,
    soft: SoftTargets | None = None,
) -> "HeadLoss | LongHeadLoss":
    """Compute the losses of a window's targets as is fastest here. See `HeadLoss`."""
    is_long = head.out_features >= LONG and x.dtype == torch.float32
    return (LongHeadLoss if is_long else HeadLoss)(
        kernels, head, x, targets, training=training, soft=soft
    )


class HeadLoss:
    """Computes `losses`, -ln p of each target under the head's softmax; call `backward` once.

    training: keep what `backward` needs. soft: what is learned beside the targets. To be used under
    torch.no_grad().

    Shapes: x [..., padded H] in float32 or bfloat16, targets [...] (int64), losses as targets.
    """

    def __init__(
        self,
        kernels: Kernels,
        head: nn.Linear,
        x: Tensor,
        targets: Tensor,
        *,
        training: bool,
        soft: SoftTargets | None = None,
    ) -> None:
        self._kernels, self._head, self._x = kernels, head, x
        padded, biases = _padded(kernels, head, x)
        self._weight = padded
        (columns, H), count, own = padded.shape, targets.numel(), TYPES[x.dtype]
        forward_weights = kernels.acquire(padded.numel(), dtype=x.dtype)
        self._backward_weights = self._gradient = None
        if training:
            if not library_is_faster(kernels, x.dtype):
                self._backward_weights = kernels.acquire(columns, H, dtype=x.dtype)
            self._gradient = kernels.acquire(count, columns, dtype=x.dtype)
        threads = torch.get_num_threads()
        kernels.call(
            "pack_head", own, columns, H, padded, forward_weights, self._backward_weights, threads
        )
        self.losses = torch.empty(targets.shape)
        kernels.call(
            "loss", own, x, count, H, forward_weights, biases, columns, targets.contiguous(),
            self.losses, self._gradient, threads,
        )  # fmt: skip
        kernels.release(forward_weights)
        if soft is not None and self._gradient is not None:
            soft.mix_into(self._gradient, targets.flatten(), 0, 1 / count)

    def backward(self) -> Tensor:
        """Fill the head's gradients of the mean of `losses`; return that of x, as a buffer."""
        kernels, head, gradient = self._kernels, self._head, self._gradient
        assert gradient is not None
        rows = self._x.view(len(gradient), -1)
        d_weight = torch.empty(gradient.shape[1], rows.shape[1])
        d_bias = weight_gradient(kernels, gradient, rows, d_weight)
        d_x = kernels.acquire(*self._x.shape, dtype=self._x.dtype)
        rows_product(kernels, gradient, self._weight, self._backward_weights, d_x.view_as(rows))
        kernels.release(self._backward_weights, gradient)
        V, H = head.weight.shape
        head.weight.grad, head.bias.grad = d_weight[:V, :H].contiguous(), d_bias[:V]
        return d_x


class LongHeadLoss:
    """Does what `HeadLoss` does for a long vocabulary, in float32: by torch's products, some rows
    forward and at once backward, so that a few logits are there at a time."""

    def __init__(
        self,
        kernels: Kernels,
        head: nn.Linear,
        x: Tensor,
        targets: Tensor,
        *,
        training: bool,
        soft: SoftTargets | None = None,
    ) -> None:
        self._head = head
        padded, biases = _padded(kernels, head, x)
        rows, wanted = x.reshape(-1, x.shape[-1]), targets.flatten()
        losses, scale = torch.empty(len(rows)), 1 / len(rows) if training else 0.0
        logits = kernels.acquire(min(ROWS, len(rows)), len(padded), dtype=torch.float32)
        if training:
            self._d_weight, self._d_bias = torch.zeros_like(padded), torch.zeros_like(biases)
            self._d_x = kernels.acquire(*x.shape, dtype=torch.float32)
            d_rows = self._d_x.view_as(rows)
        for first in range(0, len(rows), ROWS):
            some = slice(first, min(first + ROWS, len(rows)))
            here = logits[: some.stop - first]
            torch.addmm(biases, rows[some], padded.t(), out=here)
            kernels.call(
                "softmax", "float32", here, len(here), len(padded), wanted[some], losses[some],
                scale, torch.get_num_threads(),
            )  # fmt: skip
            if not training:
                continue
            if soft is not None:
                soft.mix_into(here, wanted[some], first, scale)
            self._d_weight.addmm_(here.t(), rows[some])
            self._d_bias += here.sum(0)
            torch.mm(here, padded, out=d_rows[some])
        kernels.release(logits)
        self.losses = losses.view(targets.shape)

    def backward(self) -> Tensor:
        """Fill the head's gradients of the mean of `losses`; return that of x, as a buffer."""
        V, H = self._head.weight.shape
        self._head.weight.grad = self._d_weight[:V, :H].contiguous()
        self._head.bias.grad = self._d_bias[:V]
        return self._d_x


def _padded(kernels: Kernels, head: nn.Linear, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the head's weights and biases for whole vectors: none of what pads them is likely."""
    below, beside = -len(head.bias) % kernels.width, x.shape[-1] - head.in_features
    weight = F.pad(head.weight, (0, beside, 0, below)) if below or beside else head.weight.detach()
    return weight, F.pad(head.bias, (0, below), value=NEVER)
