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
from charlm.native.products import drop, wished
from charlm.native.window import Window

Mask = Callable[[int, tuple[int, ...]], tuple[Tensor, int]]
"""Dropout, of layer and shape: random bytes, and the first of them that keeps its element."""


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

    @torch.no_grad()
    def surprisals(
        self, symbols: Tensor, targets: Tensor, states: list[State]
    ) -> tuple[Tensor, list[State]]:
        """-ln p of every target, and the states after them. Shapes: [T, B], all of them."""
        precision = wished()
        with torch.autocast("cpu", enabled=False):
            windows, x, _ = self._forward(symbols, states, None, precision, way_back=False)
            losses = HeadLoss(self._kernels, self._head, x, targets, way_back=False).losses
            for window in windows:
                window.forget()
            return losses, [window.after for window in windows]

    @torch.no_grad()
    def learn(
        self, symbols: Tensor, targets: Tensor, states: list[State], mask: Mask | None
    ) -> tuple[Tensor, list[State]]:
        """The mean of `surprisals`, with its gradient in every parameter's `grad`, and the states
        after the window. mask: of dropout, if any. The next call uses the gradients' memory."""
        precision = wished()
        lent, self._lent = self._lent, []
        self._kernels.give_back(*lent)
        with torch.autocast("cpu", enabled=False):
            windows, x, dropped = self._forward(symbols, states, mask, precision, way_back=True)
            loss = HeadLoss(self._kernels, self._head, x, targets, way_back=True)
            d = loss.back()
            for layer in reversed(range(len(windows))):
                if mask is not None:
                    drop(self._kernels, d, *dropped[layer], d)
                d_output, d = d, windows[layer].back(d)
                self._kernels.give_back(d_output)
                self._lent += windows[layer].lent
            self._back_to_embedding(symbols, d)
        return loss.losses.mean(), [window.after for window in windows]

    def _back_to_embedding(self, symbols: Tensor, d: Tensor) -> None:
        """d: the gradient of what the first layer was given."""
        if self._embedding is None:
            return
        weight = self._embedding.weight
        if self._looks_up(symbols):
            weight.grad = d
        else:
            rows = d[..., : weight.shape[1]].flatten(0, 1).float()
            weight.grad = torch.zeros_like(weight).index_add_(0, symbols.flatten(), rows)
            self._kernels.give_back(d)

    def _looks_up(self, symbols: Tensor) -> bool:
        """Whether the first layer's input is looked up in a table of all symbols."""
        return self._head.out_features <= symbols.numel()

    def _forward(
        self,
        symbols: Tensor,
        states: list[State],
        mask: Mask | None,
        precision: torch.dtype,
        *,
        way_back: bool,
    ) -> tuple[list[Window], Tensor, list[tuple[Tensor, int]]]:
        """The windows of all layers, what the head reads, and what dropout did to each output."""
        kernels = self._kernels
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
                dropped.append(mask(layer, (*x.shape[:2], cell.hidden_size)))
                x, output = kernels.borrow(*x.shape, dtype=precision), x
                drop(kernels, output, *dropped[-1], x)
                self._lent.append(x)
        return windows, x, dropped

    def _vectors(self, symbols: Tensor, of_all: bool) -> Tensor:
        """Of all V symbols, [V, I], or of each symbol of the window, [T, B, I]."""
        if self._embedding is None:
            V = self._head.out_features
            return torch.eye(V) if of_all else F.one_hot(symbols, V).float()
        weight = self._embedding.weight
        return weight.detach() if of_all else F.embedding(symbols, weight)
