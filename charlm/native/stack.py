"""Forward and backward pass of a whole model over a window by the kernels.

Symbols: T time, B lanes, I input size, V vocabulary size.
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.cells.base import Cell, GatedCell, State
from charlm.native.head import HeadLoss, SoftTargets
from charlm.native.interface import Kernels
from charlm.native.products import autocast_type, drop
from charlm.native.window import LayerInput, LayerPass

Mask = tuple[Callable[[int, tuple[int, ...]], Tensor], int]
"""Dropout: a function that draws random bytes for a layer and a shape, and the least byte that
keeps its element."""
Ready = Callable[[Tensor, Tensor], None]
"""Callback for a parameter and its complete gradient."""


class Stack:
    """The modules of a model, which it shares, with the kernels that compute them.

    end: the symbol with which a record ends, before which the states are reset.
    """

    def __init__(
        self,
        kernels: Kernels,
        embedding: nn.Embedding | None,
        cells: Sequence[Cell],
        head: nn.Linear,
        end: int | None = None,
    ) -> None:
        assert kernels.supports(cells)
        self._kernels, self._embedding, self._head = kernels, embedding, head
        self._end = end
        self._cells = cast("Sequence[GatedCell]", cells)
        self._in_use: list[Tensor] = []
        """Buffers of the gradients, in use until the next step."""

    @torch.no_grad()
    def surprisals(
        self, symbols: Tensor, targets: Tensor, states: list[State]
    ) -> tuple[Tensor, list[State]]:
        """Return -ln p of every target, and the states after the window. Shapes: [T, B] each."""
        precision = autocast_type()
        with torch.autocast("cpu", enabled=False):
            layers, x, _ = self._forward(symbols, states, None, precision, training=False)
            self._refuse_out_of_bounds(targets)
            losses = HeadLoss(self._kernels, self._head, x, targets, training=False).losses
            for layer in layers:
                layer.release()
            return losses, [layer.after for layer in layers]

    @torch.no_grad()
    def log_probabilities(self, symbols: Tensor, states: list[State]) -> tuple[Tensor, list[State]]:
        """Return ln p of every next symbol, [T, B, V], and the states after the window."""
        precision = autocast_type()
        with torch.autocast("cpu", enabled=False):
            layers, x, _ = self._forward(symbols, states, None, precision, training=False)
            outputs = x[..., : self._head.in_features].float()
            logits = F.linear(outputs, self._head.weight, self._head.bias)
            for layer in layers:
                layer.release()
            return logits.log_softmax(-1), [layer.after for layer in layers]

    @torch.no_grad()
    def loss_and_gradients(
        self,
        symbols: Tensor,
        targets: Tensor,
        states: list[State],
        mask: Mask | None,
        soft: SoftTargets | None = None,
        ready: Ready | None = None,
    ) -> tuple[Tensor, list[State]]:
        """Return the results of `surprisals`; store the gradient of the mean surprisal with respect
        to every parameter in its `grad`. The next call overwrites the gradients.

        mask: of dropout, if any. soft: soft targets. ready: called with the gradients of a layer
            before those of the layers below are computed.
        """
        precision = autocast_type()
        in_use, self._in_use = self._in_use, []
        self._kernels.release(*in_use)
        with torch.autocast("cpu", enabled=False):
            layers, x, draws = self._forward(symbols, states, mask, precision, training=True)
            self._refuse_out_of_bounds(targets)
            loss = HeadLoss(self._kernels, self._head, x, targets, training=True, soft=soft)
            d = loss.backward()
            _tell(ready, self._head)
            for number in reversed(range(len(layers))):
                if mask is not None:
                    drop(self._kernels, d, draws[number], mask[1], d)
                d_output, d = d, layers[number].backward(d)
                self._kernels.release(d_output)
                self._in_use += layers[number].gradient_buffers
                _tell(ready, self._cells[number])
            self._backward_embedding(symbols, d)
            _tell(ready, self._embedding)
        return loss.losses, [layer.after for layer in layers]

    def _refuse_out_of_bounds(self, symbols: Tensor) -> None:
        """Check symbols before they are used as indices in C++. Raises: IndexError."""
        low, high = (int(bound) for bound in symbols.aminmax())
        if low < 0 or high >= self._head.out_features:
            raise IndexError(
                f"symbols from {low} to {high}, the vocabulary has {self._head.out_features}"
            )

    def _backward_embedding(self, symbols: Tensor, d: Tensor) -> None:
        """Compute the embedding's gradient from `d`, that of the first layer's inputs."""
        if self._embedding is None:
            return
        weight = self._embedding.weight
        if self._looks_up(symbols):
            weight.grad = d
        else:
            rows = d[..., : weight.shape[1]].flatten(0, 1).float()
            weight.grad = torch.zeros_like(weight).index_add_(0, symbols.flatten(), rows)
            self._kernels.release(d)

    def _looks_up(self, symbols: Tensor) -> bool:
        """Return True if the first layer's input is looked up in a table of all symbols."""
        return self._head.out_features <= symbols.numel()

    def _forward(
        self,
        symbols: Tensor,
        states: list[State],
        mask: Mask | None,
        precision: torch.dtype,
        *,
        training: bool,
    ) -> tuple[list[LayerPass], Tensor, list[Tensor]]:
        """Run all layers; return them, the head's input, and dropout's bytes for each output."""
        kernels = self._kernels
        self._refuse_out_of_bounds(symbols)
        looked_up = symbols.contiguous() if self._looks_up(symbols) else None
        x = self._vectors(symbols, looked_up is not None)
        if looked_up is None:
            x = F.pad(x, (0, -x.shape[-1] % kernels.width)).to(precision)
        layers: list[LayerPass] = []
        draws: list[Tensor] = []
        resets = None if self._end is None else (symbols == self._end).to(torch.uint8).contiguous()
        if resets is not None and not resets.any():
            resets = None
        for number, (cell, state) in enumerate(zip(self._cells, states, strict=True)):
            rows = None if number else looked_up
            given = LayerInput(x, rows, resets)
            layer = LayerPass(kernels, cell, precision, given, state, training=training)
            layers.append(layer)
            x = layers[-1].output
            if mask is not None:
                draw, threshold = mask
                draws.append(draw(number, (*x.shape[:2], cell.hidden_size)))
                x, output = kernels.acquire(*x.shape, dtype=precision), x
                drop(kernels, output, draws[-1], threshold, x)
                self._in_use.append(x)
        return layers, x, draws

    def _vectors(self, symbols: Tensor, of_all: bool) -> Tensor:
        """Return the vectors of all V symbols, [V, I], or of the window's symbols, [T, B, I]."""
        if self._embedding is None:
            V = self._head.out_features
            return torch.eye(V) if of_all else F.one_hot(symbols, V).float()
        weight = self._embedding.weight
        return weight.detach() if of_all else F.embedding(symbols, weight)


def _tell(ready: Ready | None, module: nn.Module | None) -> None:
    """Call `ready` with the complete gradients of a module's parameters."""
    if ready is None or module is None:
        return
    for parameter in module.parameters():
        assert parameter.grad is not None
        ready(parameter, parameter.grad)
