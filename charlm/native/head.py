"""The head and its loss by the kernels: the logits of a window are never kept.

Symbols: H hidden size (filled up to whole vectors), V vocabulary size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.native.interface import TYPES, Kernels
from charlm.native.products import rows_product, weight_gradient

NEVER = -1e30
"""The logit of what fills up the last vector of the vocabulary."""


class HeadLoss:
    """-ln p of each target under the head's softmax, in `losses`; and once, the way `back`.

    To be made and asked under torch.no_grad().

    Shapes: x [..., filled H] in float32 or bfloat16, targets [...] (int64), losses as targets.
    """

    def __init__(
        self, kernels: Kernels, head: nn.Linear, x: Tensor, targets: Tensor, *, way_back: bool
    ) -> None:
        self._kernels, self._head, self._x = kernels, head, x
        below, beside = -len(head.bias) % kernels.width, x.shape[-1] - head.in_features
        filled = F.pad(head.weight, (0, beside, 0, below))
        biases = F.pad(head.bias, (0, below), value=NEVER)
        (columns, H), count, own = filled.shape, targets.numel(), TYPES[x.dtype]
        ahead = kernels.borrow(filled.numel(), dtype=x.dtype)
        self._back = self._gradient = None
        if way_back:
            self._back = kernels.borrow(columns, H, dtype=x.dtype)
            self._gradient = kernels.borrow(count, columns, dtype=x.dtype)
        threads = torch.get_num_threads()
        kernels.call("pack_head", own, columns, H, filled, ahead, self._back, threads)
        self.losses = torch.empty(targets.shape)
        kernels.call(
            "loss", own, x, count, H, ahead, biases, columns, targets.contiguous(), self.losses,
            self._gradient, threads,
        )  # fmt: skip
        kernels.give_back(ahead)

    def back(self) -> Tensor:
        """Fills the head's gradients of the mean of `losses`; returns that of x, borrowed."""
        kernels, head, gradient = self._kernels, self._head, self._gradient
        assert gradient is not None
        assert self._back is not None
        rows = self._x.view(len(gradient), -1)
        d_weight = torch.empty(gradient.shape[1], rows.shape[1])
        d_bias = weight_gradient(kernels, gradient, rows, d_weight)
        d_x = kernels.borrow(*self._x.shape, dtype=self._x.dtype)
        rows_product(kernels, gradient, self._back, d_x.view_as(rows))
        kernels.give_back(self._back, gradient)
        V, H = head.weight.shape
        head.weight.grad, head.bias.grad = d_weight[:V, :H].contiguous(), d_bias[:V]
        return d_x
