"""A computation on an NVIDIA GPU recorded once, as a CUDA graph, and replayed as one launch.

A step of truncated BPTT is thousands of small operations; started one by one from Python, they keep
the GPU waiting for the next. Source: the CUDA semantics notes of torch, section "CUDA Graphs".
"""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

log = logging.getLogger(__name__)

Computation = Callable[[list[Tensor]], list[Tensor]]

WARM_UP = 3
"""Calls before the recording, in which libraries choose kernels and set up what they need."""


class Replay:
    """A computation of tensors on one GPU, always of the same shapes, that waits for nothing.

    The first call records it and tries the recording: where that fails, or where it does not give
    what the computation gives, every call computes as before, and a warning says so.
    """

    def __init__(self, compute: Computation) -> None:
        self._compute = compute
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor] = []
        self._outputs: list[Tensor] = []
        self._refused = False

    def __call__(self, inputs: list[Tensor]) -> list[Tensor]:
        """The computation's results, to be read before the next call, which writes over them."""
        if self._refused:
            return self._compute(inputs)
        if self._graph is not None:
            for mine, given in zip(self._inputs, inputs, strict=True):
                mine.copy_(given)
            self._graph.replay()
            return self._outputs
        try:
            expected = self._record(inputs)
        except RuntimeError as error:
            return self._without(inputs, str(error).splitlines()[0])
        if not all(map(_agree, self._outputs, expected)):
            return self._without(inputs, "it does not repeat what it recorded")
        return self._outputs

    def _record(self, inputs: list[Tensor]) -> list[Tensor]:
        """Record, and replay once. Returns what the computation itself gives."""
        self._inputs = [given.clone() for given in inputs]
        device = self._inputs[0].device
        with torch.cuda.device(device):
            aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(WARM_UP):
                    expected = self._compute(self._inputs)
            torch.cuda.current_stream().wait_stream(aside)
            torch.clear_autocast_cache()  # or the weights of today would be recorded as they are
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=aside):
                self._outputs = self._compute(self._inputs)
            torch.clear_autocast_cache()
            graph.replay()
        self._graph = graph
        return expected

    def _without(self, inputs: list[Tensor], reason: str) -> list[Tensor]:
        log.warning(f"training without a CUDA graph, more slowly: {reason}")
        self._refused, self._graph, self._inputs, self._outputs = True, None, [], []
        return self._compute(inputs)


def _agree(found: Tensor, expected: Tensor) -> bool:
    """Equal but for the order of sums."""
    if found.numel() == 0:
        return True
    deviation = (found - expected).float().norm() / expected.float().norm().clamp(min=1e-12)
    return bool(deviation < 1e-2)
