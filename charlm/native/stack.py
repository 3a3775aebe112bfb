"""A whole model over a window by the kernels: embedding, layers, head, and all the way back.

Symbols: T time, B lanes, I input size, V vocabulary size.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.cells.base import Cell, State
from charlm.native.head import HeadLoss
from charlm.native.interface import Kernels
from charlm.native.products import wished
from charlm.native.window import Window

Mask = Callable[[int, tuple[int, ...]], tuple[Tensor, float]]
"""Dropout, of layer and shape: which elements are kept (true), and what these are multiplied by."""


class Stack:
    """The parts of a model, which it shares, with the kernels that compute them."""

    def __init__(
        self,
        kernels: Kernels,
        embedding: nn.Embedding | None,
        cells: Sequence[Cell],
        head: nn.Linear,
    ) -> None:
        self._kernels, self._embedding, self._cells, self._head = kernels, embedding, cells, head
        self._lent: list[Tensor] = []  # to gradients, until the next step

    def surprisals(
        self, symbols: Tensor, targets: Tensor, states: list[State]
    ) -> tuple[Tensor, list[State]]:
        """-ln p of every target, and the states after them. Shapes: [T, B], all of them."""
        windows = self._forward(symbols, states, None, way_back=False)[0]
        x = windows[-1].output
        losses = HeadLoss(self._kernels, self._head, x, targets, way_back=False).losses
        for window in windows:
            window.forget()
        return losses, [window.after for window in windows]

    def learn(
        self, symbols: Tensor, targets: Tensor, states: list[State], mask: Mask | None
    ) -> tuple[Tensor, list[State]]:
        """The mean of `surprisals`, with its gradient in every parameter's `grad`, and the states
        after the window. mask: of dropout, if any."""
        self._kernels.give_back(*self._lent)
        self._lent = []
        windows, x, dropped = self._forward(symbols, states, mask, way_back=True)
        loss = HeadLoss(self._kernels, self._head, x, targets, way_back=True)
        d = loss.back()
        for window, layer in zip(reversed(windows), reversed(range(len(windows))), strict=True):
            if mask is not None:
                kept, scale = dropped[layer]
                d.mul_(kept).mul_(scale)
            d_output, d = d, window.back(d)
            self._kernels.give_back(d_output)
            self._lent += window.lent
        if self._embedding is not None:
            weight = self._embedding.weight
            if self._looks_up(symbols):
                weight.grad = d
            else:
                rows = d[..., : weight.shape[1]].flatten(0, 1).float()
                weight.grad = torch.zeros_like(weight).index_add_(0, symbols.flatten(), rows)
        return loss.losses.mean(), [window.after for window in windows]

    def _looks_up(self, symbols: Tensor) -> bool:
        """Whether the first layer's input is looked up in a table of all symbols."""
        return self._head.out_features <= symbols.numel()

    @torch.no_grad()
    def _forward(
        self, symbols: Tensor, states: list[State], mask: Mask | None, *, way_back: bool
    ) -> tuple[list[Window], Tensor, list[tuple[Tensor, float]]]:
        """The windows of all layers, what the head reads, and what dropout did to each output."""
        kernels, precision = self._kernels, wished()
        looked_up = symbols.contiguous() if self._looks_up(symbols) else None
        x = self._vectors(symbols, looked_up is not None)
        if looked_up is None:
            x = F.pad(x, (0, -x.shape[-1] % kernels.width)).to(precision)
        windows, dropped = [], []
        for layer, (cell, state) in enumerate(zip(self._cells, states, strict=True)):
            rows = None if layer else looked_up
            window = Window(kernels, cell, precision, x, rows, state, way_back=way_back)
            windows.append(window)
            x = window.output
            if mask is not None:
                kept, scale = mask(layer, (*x.shape[:2], cell.hidden_size))
                kept = F.pad(kept.to(precision), (0, x.shape[2] - kept.shape[2]))
                x = (x * kept).mul_(scale)
                dropped.append((kept, scale))
        return windows, x, dropped

    def _vectors(self, symbols: Tensor, of_all: bool) -> Tensor:
        """Of all V symbols, [V, I], or of each symbol of the window, [T, B, I]."""
        if self._embedding is None:
            V = self._head.out_features
            return torch.eye(V) if of_all else F.one_hot(symbols, V).float()
        weight = self._embedding.weight
        return weight.detach() if of_all else F.embedding(symbols, weight)
