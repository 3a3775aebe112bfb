"""The computation of one window: forward, loss and gradients, by torch or by the native kernels.

Symbols: T time, B lanes, V vocabulary size, H hidden size.
"""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from charlm.backends.cuda_graph import CudaGraph
from charlm.backends.device import to_device
from charlm.models import dropout
from charlm.models.dropout import Drop
from charlm.models.recurrent import CharModel, States
from charlm.native.interface import Kernels
from charlm.native.model import NOTHING, Dropped, NativeModel, Parts, Ready, SoftTargets


class Computation(Protocol):
    """A computation of one model's windows.

    Shapes: symbols and targets [T, B] (int64).
    """

    model: CharModel

    def loss_and_gradients(
        self,
        symbols: Tensor,
        targets: Tensor,
        states: States,
        *,
        drop: Drop | None = None,
        soft: SoftTargets | None = None,
        ready: Ready | None = None,
    ) -> tuple[Tensor, States]:
        """Return -ln p of every target, [T, B], and the states after the window, detached from the
        graph; store the gradient of the mean with respect to every parameter in its `grad`.

        drop: drops outputs of every layer (between layers and before the head) and elements of
            W_hh; None: no dropout.
            soft: soft targets, which change the gradients only. ready: called with every
            gradient as soon as it is complete. Use and drop the gradients before the next call.
        """
        ...

    def log_probabilities(self, symbols: Tensor, states: States) -> tuple[Tensor, States]:
        """Return ln p of every next symbol, [T, B, V], and the states after the window."""
        ...

    def surprisals(self, symbols: Tensor, targets: Tensor, states: States) -> tuple[Tensor, States]:
        """Return -ln p of every target, [T, B], and the states after the window."""
        ...


class NativeComputation:
    """A `Computation` by the native kernels, on a CPU."""

    def __init__(self, model: CharModel, kernels: Kernels) -> None:
        self.model = model
        self._native = NativeModel(kernels, parts_of(model))

    def loss_and_gradients(
        self,
        symbols: Tensor,
        targets: Tensor,
        states: States,
        *,
        drop: Drop | None = None,
        soft: SoftTargets | None = None,
        ready: Ready | None = None,
    ) -> tuple[Tensor, States]:
        dropped = NOTHING
        if drop is not None:
            first = 0 if drop.lanes is None else drop.lanes.start
            dropped = Dropped(drop.seed, *thresholds(self.model), first)
        return self._native.loss_and_gradients(symbols, targets, states, dropped, soft, ready)

    def log_probabilities(self, symbols: Tensor, states: States) -> tuple[Tensor, States]:
        return self._native.log_probabilities(symbols, states)

    def surprisals(self, symbols: Tensor, targets: Tensor, states: States) -> tuple[Tensor, States]:
        return self._native.surprisals(symbols, targets, states)


def thresholds(model: CharModel) -> tuple[int, int]:
    """Return the least random bytes that keep an output, and an element of W_hh."""
    config = model.config
    return dropout.threshold(config.dropout), dropout.threshold(config.weight_dropout)


def parts_of(model: CharModel) -> Parts:
    """Return the modules of a model of cells with gate blocks, as the kernels take them."""
    return Parts(model.embedding, model.projected_layers(), model.head, model.end)


class TorchComputation:
    """A `Computation` by torch, on any device.

    records_graph: True records training's windows, all of one shape, as a CUDA graph.
    """

    def __init__(self, model: CharModel, *, records_graph: bool = False) -> None:
        self.model = model
        self._graph = CudaGraph() if records_graph else None

    def loss_and_gradients(
        self,
        symbols: Tensor,
        targets: Tensor,
        states: States,
        *,
        drop: Drop | None = None,
        soft: SoftTargets | None = None,
        ready: Ready | None = None,
    ) -> tuple[Tensor, States]:
        parts = [part for state in states for part in state]
        tensors = [symbols, targets, *parts, *self._masks(drop, symbols)]
        flat = self._flat
        if soft is not None:
            tensors.append(soft.probabilities)
            flat = partial(self._flat, soft_weight=soft.weight)
        parameters = list(self.model.parameters())
        if self._graph is not None:
            losses, *rest = self._graph(flat, tensors)
        else:
            with _hooked(ready, parameters):
                losses, *rest = flat(tensors)
        for parameter, gradient in zip(parameters, rest[-len(parameters) :], strict=True):
            parameter.grad = gradient
            if ready is not None and self._graph is not None:
                ready(parameter, gradient)
        after = self._grouped(rest)
        if self._graph is None:
            return losses, after
        return losses.clone(), [tuple(part.clone() for part in state) for state in after]

    @torch.no_grad()
    def log_probabilities(self, symbols: Tensor, states: States) -> tuple[Tensor, States]:
        logits, after = self.model(symbols, states)
        return logits.float().log_softmax(-1), after

    @torch.no_grad()
    def surprisals(self, symbols: Tensor, targets: Tensor, states: States) -> tuple[Tensor, States]:
        outputs, after = self.model.outputs(symbols, states)
        logits = self.model.head(outputs).float().flatten(0, 1)
        losses = F.cross_entropy(logits, targets.flatten(), reduction="none")
        return losses.view(targets.shape), after

    def _flat(self, tensors: list[Tensor], soft_weight: float = 0.0) -> list[Tensor]:
        """Return losses, next states and gradients as a flat list, from symbols, targets, states,
        masks and, if they have a weight, soft targets: `CudaGraph` takes and returns tensors only.
        """
        symbols, targets, *rest = tensors
        probabilities = rest.pop() if soft_weight else None
        states = self._grouped(rest)
        masks, weights = self._split_masks(rest[sum(map(len, states)) :])
        if weights:
            logits, after = functional_call(self.model, weights, (symbols, states, masks))
        else:
            logits, after = self.model(symbols, states, masks)
        flat = logits.float().flatten(0, 1)
        losses = F.cross_entropy(flat, targets.flatten(), reduction="none").view(targets.shape)
        with torch.autocast(losses.device.type, enabled=False):
            mean = losses.mean()
            if probabilities is not None:
                crossed = -(probabilities.flatten(0, 1) * flat.log_softmax(-1)).sum(-1).mean()
                mean = (1 - soft_weight) * mean + soft_weight * crossed
            gradients = torch.autograd.grad(mean, list(self.model.parameters()))
        parts = [part.detach() for state in after for part in state]
        return [losses.detach(), *parts, *_without_shared_storage(gradients)]

    def _grouped(self, parts: list[Tensor]) -> States:
        """Group the first tensors of a list as the states of all layers."""
        left = iter(parts)
        return [tuple(next(left) for _ in cell.state_parts) for cell in self.model.layers()]

    def _masks(self, drop: Drop | None, symbols: Tensor) -> list[Tensor]:
        """Draw dropout's masks: of every layer's outputs, [T, B, H], and then of every W_hh; none
        without dropout."""
        config = self.model.config
        if drop is None:
            return []
        shape, masks = (*symbols.shape, config.hidden_size), []
        first, weight_threshold = thresholds(self.model)
        for layer in range(config.num_layers if first else 0):
            drawn = dropout.random_bytes(drop.seed, layer, shape, drop.lanes)
            masks.append(to_device(drawn, symbols.device) >= first)
        matrices = self.model.dropped_matrices().values() if weight_threshold else ()
        for layer, matrix in enumerate(matrices):
            drawn = dropout.weight_bytes(drop.seed, layer, tuple(matrix.shape))
            masks.append(to_device(drawn, symbols.device) >= weight_threshold)
        return masks

    def _split_masks(self, masks: list[Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Split the result of `_masks`: the masks of outputs, and every W_hh with its mask applied,
        by name."""
        config = self.model.config
        count = config.num_layers if thresholds(self.model)[0] else 0
        of_weights = masks[count:]
        matrices = self.model.dropped_matrices() if of_weights else {}
        return masks[:count], {
            name: dropout.drop(matrix, mask, config.weight_dropout)
            for (name, matrix), mask in zip(matrices.items(), of_weights, strict=True)
        }


@contextlib.contextmanager
def _hooked(ready: Ready | None, parameters: list[nn.Parameter]) -> Iterator[None]:
    """Call `ready` with every parameter's gradient that autograd completes in the `with` block."""
    if ready is None:
        yield
        return
    hooks = [
        parameter.register_hook(partial(ready, parameter))  # type: ignore[no-untyped-call]
        for parameter in parameters
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _without_shared_storage(gradients: tuple[Tensor, ...]) -> Iterator[Tensor]:
    """Clone gradients that share storage: autograd gives the same tensor to two biases that are
    added, and clipping one in place would clip the other."""
    seen = set()
    for gradient in gradients:
        yield gradient.clone() if gradient.data_ptr() in seen else gradient
        seen.add(gradient.data_ptr())
