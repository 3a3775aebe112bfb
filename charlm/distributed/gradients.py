"""Averages of the gradients of several groups of lanes, and of several ranks, for one step."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from charlm.distributed.ranks import Ranks

BUCKET = 1 << 22
"""Bytes of a full bucket. (An LSTM layer of 512 units fills two.)"""


class _Bucket:
    """Gradients that are summed over the ranks in one operation.

    missing: number of gradients of the current group that are not computed yet.
    """

    def __init__(self, parameters: Sequence[Tensor], reduce: torch.dtype) -> None:
        self.parameters = parameters
        self.sum = torch.empty(sum(p.numel() for p in parameters), device=parameters[0].device)
        pieces = torch.split(self.sum, [p.numel() for p in parameters])
        self.views = [piece.view_as(p) for piece, p in zip(pieces, parameters, strict=True)]
        self.sent = (
            self.sum if reduce == torch.float32 else torch.empty_like(self.sum, dtype=reduce)
        )
        self.missing = 0
        self.work: Any = None

    def send(self) -> None:
        """Start the sum over the ranks."""
        if self.sent is not self.sum:
            self.sent.copy_(self.sum)
        self.work = dist.all_reduce(self.sent, async_op=True)


class MeanGradients:
    """The mean gradients of a step, over its groups of lanes and over the ranks.

    In the last group's backward pass, a bucket is summed over the ranks as soon as all of its
    gradients are computed, while the pass continues in the layers below. reduce: type of this sum.
    """

    def __init__(
        self, parameters: Sequence[Tensor], ranks: Ranks, *, groups: int, reduce: torch.dtype
    ) -> None:
        self._ranks, self._groups, self._group = ranks, groups, 0
        self._buckets: list[_Bucket] = []
        self._sent = 0
        filling: list[Tensor] = []
        for parameter in reversed(parameters):  # about the order of the backward pass
            filling.append(parameter)
            if sum(4 * p.numel() for p in filling) >= BUCKET or parameter is parameters[0]:
                self._buckets.append(_Bucket(filling, reduce))
                filling = []
        self._places = {
            id(parameter): (bucket, view)
            for bucket in self._buckets
            for parameter, view in zip(bucket.parameters, bucket.views, strict=True)
        }

    def begin(self, group: int) -> None:
        """Expect the gradients of group number `group`, counted from 0."""
        self._group, self._sent = group, 0
        for bucket in self._buckets:
            bucket.missing = len(bucket.parameters)

    @torch.no_grad()
    def add(self, parameter: Tensor, gradient: Tensor) -> None:
        """Add the gradient of a parameter, which may be overwritten afterwards."""
        bucket, view = self._places[id(parameter)]
        if self._group:
            view.add_(gradient)
        else:
            view.copy_(gradient)
        bucket.missing -= 1
        if self._group < self._groups - 1 or self._ranks.size == 1:
            return
        while self._sent < len(self._buckets) and not self._buckets[self._sent].missing:
            with self._ranks.answered():  # in the same order on all ranks
                self._buckets[self._sent].send()
            self._sent += 1

    @torch.no_grad()
    def finish(self) -> None:
        """Wait for the other ranks; store the mean in every parameter's `grad`."""
        for bucket in self._buckets:
            assert not bucket.missing
            if bucket.work is not None:
                with self._ranks.answered():
                    bucket.work.wait()
                bucket.work = None
                if bucket.sent is not bucket.sum:
                    bucket.sum.copy_(bucket.sent)
            bucket.sum /= self._groups * self._ranks.size
            for parameter, view in zip(bucket.parameters, bucket.views, strict=True):
                parameter.grad = view
