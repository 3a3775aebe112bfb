"""The head and its loss; of a window's logits only the gradient is stored, in training.

Symbols: H hidden size (padded to whole vectors), V vocabulary size (likewise).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.native.interface import TYPES, Kernels
from charlm.native.products import rows_product, weight_gradient


@dataclass(frozen=True)
class SoftTargets:
    """Soft targets, mixed into the loss with a `weight`.

        loss = (1 - weight) (-ln p(target)) - weight sum_s q(s) ln p(s)

    Shapes: probabilities q [T, B, V]. Source: Hinton et al. 2015 (arXiv 1503.02531), temperature 1.
    """

    probabilities: Tensor
    weight: float

    def mix_into(self, gradient: Tensor, targets: Tensor) -> None:
        """Turn the gradient of the mean loss with respect to the logits into that of the mixed one.

        Shapes: gradient [T*B, V or more], targets [T*B].
        """
        share, probabilities = self.weight / len(targets), self.probabilities.flatten(0, 1)
        gradient[:, : probabilities.shape[1]] -= share * probabilities
        gradient[torch.arange(len(targets)), targets] += share


NEVER = -1e30
"""The logit of the padding in the last vector of the vocabulary."""


class HeadLoss:
    """The `losses`, -ln p of each target under the head's softmax; call `backward` once.

    training: True stores the gradient for `backward`. soft: soft targets. Use it under
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
        (columns, H), count, own = padded.shape, targets.numel(), TYPES[x.dtype]
        forward_weights = kernels.acquire(padded.numel(), dtype=x.dtype)
        self._backward_weights = self._gradient = None
        if training:
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
            soft.mix_into(self._gradient, targets.flatten())

    def backward(self) -> Tensor:
        """Store the head's gradients of the mean of `losses`; return that of x, as a buffer."""
        kernels, head, gradient = self._kernels, self._head, self._gradient
        assert gradient is not None and self._backward_weights is not None  # noqa: PT018
        rows = self._x.view(len(gradient), -1)
        d_weight = torch.empty(gradient.shape[1], rows.shape[1])
        d_bias = weight_gradient(kernels, gradient, rows, d_weight)
        d_x = kernels.acquire(*self._x.shape, dtype=self._x.dtype)
        rows_product(kernels, gradient, self._backward_weights, d_x.view_as(rows))
        kernels.release(self._backward_weights, gradient)
        V, H = head.weight.shape
        head.weight.grad, head.bias.grad = d_weight[:V, :H].contiguous(), d_bias[:V]
        return d_x


def _padded(kernels: Kernels, head: nn.Linear, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the head's weights and biases, padded to whole vectors of negligible probability."""
    below, beside = -len(head.bias) % kernels.width, x.shape[-1] - head.in_features
    weight = F.pad(head.weight, (0, beside, 0, below)) if below or beside else head.weight.detach()
    return weight, F.pad(head.bias, (0, below), value=NEVER)
