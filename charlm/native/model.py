"""A whole model's windows by the kernels: one call forward, and one for each layer backward.

Symbols: T time, B lanes, V vocabulary size, H hidden size.
"""

import ctypes
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from charlm.cells.base import ProjectedCell, State
from charlm.native.interface import TYPES, Kernels, ModelSizes, SoftArgs, WindowArgs

Ready = Callable[[Tensor, Tensor], None]
"""Callback for a parameter and its complete gradient."""


@dataclass(frozen=True)
class Parts:
    """The modules of a model, with its parameters or other tensors of the same shapes.

    embedding: None if symbols are one-hot. end: the symbol with which a record ends, before which
    the states are reset.
    """

    embedding: nn.Embedding | None
    cells: Sequence[ProjectedCell]
    head: nn.Linear
    end: int | None = None

    def modules(self) -> list[nn.Module]:
        """List the modules in the order of their parameters."""
        modules = (self.embedding, *self.cells, self.head)
        return [module for module in modules if module is not None]

    def parameters(self) -> list[nn.Parameter]:
        """List all parameters, in a fixed order."""
        return [p for module in self.modules() for p in module.parameters()]


class Dropped(NamedTuple):
    """Dropout of one window: see models/dropout.py.

    threshold, weight_threshold: the least random bytes that keep an output and an element of W_hh;
    0 without dropout. lane: the number of the first lane.
    """

    seed: int = 0
    threshold: int = 0
    weight_threshold: int = 0
    lane: int = 0


NOTHING = Dropped()
"""No dropout."""


@dataclass(frozen=True)
class SoftTargets:
    """Soft targets, mixed into the loss with a `weight`.

        loss = (1 - weight) (-ln p(target)) - weight sum_s q(s) ln p(s)

    Shapes: probabilities q [T, B, V]. Source: Hinton et al. 2015 (arXiv 1503.02531), temperature 1.
    """

    probabilities: Tensor
    weight: float


class Opened:
    """A model in the kernels, on the memory of its parameters.

    window: [T, B] of the windows that it will learn from, or None. learning: first and second
    moments and averages of every parameter, or None each.

    Raises: MemoryError.
    """

    def __init__(
        self,
        kernels: Kernels,
        precision: torch.dtype,
        parts: Parts,
        window: tuple[int, int] | None = None,
        learning: Sequence[Sequence[Tensor] | None] = (None, None, None),
    ) -> None:
        assert kernels.supports(parts.cells)
        first, self._kernels, self._name = parts.cells[0], kernels, TYPES[precision]
        self._parts, self.vocabulary_size = parts, parts.head.out_features
        T, B = window or (0, 0)
        sizes = ModelSizes(
            kind=kernels.kinds[first.variant].number,
            layers=len(parts.cells),
            V=self.vocabulary_size,
            E=parts.embedding.embedding_dim if parts.embedding is not None else 0,
            H=first.hidden_size,
            bias=first.bias_ih is not None,
            end=-1 if parts.end is None else parts.end,
            T=T,
            B=B,
        )
        tensors = [parts.parameters(), *learning]
        arrays = [None if some is None else pointers(some) for some in tensors]
        self._model = ctypes.c_void_p(kernels.call("new_model", self._name, sizes, *arrays))
        if not self._model:
            raise MemoryError("there is no memory for the buffers of a model")
        weakref.finalize(self, kernels.call, "delete_model", self._name, self._model)

    def window(
        self,
        symbols: Tensor,
        targets: Tensor | None,
        states: Sequence[State],
        dropped: Dropped = NOTHING,
        soft: SoftTargets | None = None,
        **more: Any,
    ) -> tuple[Any, list[State]]:
        """Return the arguments of a window, `WindowArgs`, and the states after it, which the call
        will fill. Raises: ValueError for states of another number, shape or type."""
        T, B = symbols.shape
        pairs = zip(self._parts.cells, states, strict=True)
        before = [_checked(state, cell, B) for cell, state in pairs]
        after = [tuple(map(torch.empty_like, state)) for state in before]
        given = [one.contiguous() for one in (symbols, targets) if one is not None]
        for one in given:
            assert one.dtype == torch.int64
            assert one.shape == symbols.shape
        kept = [_array([part for state in some for part in state]) for some in (before, after)]
        args = WindowArgs(
            T=T,
            B=B,
            seed=dropped.seed,
            threshold=dropped.threshold,
            weight_threshold=dropped.weight_threshold,
            first_lane=dropped.lane,
            symbols=given[0].data_ptr(),
            targets=None if targets is None else given[1].data_ptr(),
            before=ctypes.addressof(kept[0]),
            after=ctypes.addressof(kept[1]),
            threads=torch.get_num_threads(),
            **more,
        )
        if soft is not None:
            q, shape = soft.probabilities.contiguous(), (T, B, self.vocabulary_size)
            assert q.shape == shape
            assert q.dtype == torch.float32
            args.soft = SoftArgs(chances=q.data_ptr(), symbols=shape[-1], weight=soft.weight)
            given.append(q)
        args.kept = before, given, kept  # they are pointed to
        return args, after

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function on the model. Raises: IndexError for a symbol outside V; MemoryError."""
        if self._kernels.call(function, self._name, self._model, *arguments):
            raise IndexError(
                f"a symbol is out of bounds: the vocabulary has {self.vocabulary_size}"
            )


class NativeModel:
    """The modules of a model, which it shares, with the kernels that compute them."""

    def __init__(self, kernels: Kernels, parts: Parts) -> None:
        self._kernels, self._parts = kernels, parts
        self._opened: dict[torch.dtype, tuple[list[int], Opened]] = {}
        """By the type of matrix products, with the addresses of the parameters."""
        self._gradients: list[Tensor] = []

    def surprisals(
        self, symbols: Tensor, targets: Tensor, states: Sequence[State]
    ) -> tuple[Tensor, list[State]]:
        """Return -ln p of every target, and the states after the window. Shapes: [T, B] each."""
        losses, model = torch.empty(targets.shape), self._model()
        args, after = model.window(symbols, targets, states, losses=losses.data_ptr())
        model.call("read_window", args)
        return losses, after

    def log_probabilities(
        self, symbols: Tensor, states: Sequence[State]
    ) -> tuple[Tensor, list[State]]:
        """Return ln p of every next symbol, [T, B, V], and the states after the window."""
        model = self._model()
        logs = torch.empty(*symbols.shape, model.vocabulary_size)
        args, after = model.window(symbols, None, states, logs=logs.data_ptr())
        model.call("read_window", args)
        return logs, after

    def loss_and_gradients(
        self,
        symbols: Tensor,
        targets: Tensor,
        states: Sequence[State],
        dropped: Dropped,
        soft: SoftTargets | None = None,
        ready: Ready | None = None,
    ) -> tuple[Tensor, list[State]]:
        """Return the results of `surprisals`; store the gradient of the mean surprisal with respect
        to every parameter in its `grad`. The next call overwrites the gradients.

        soft: soft targets. ready: called with the gradients of a layer before those of the layers
            below are computed.
        """
        losses, model, parts = torch.empty(targets.shape), self._model(), self._parts
        parameters = parts.parameters()
        if not self._gradients:
            self._gradients = [torch.empty_like(p, requires_grad=False) for p in parameters]
        places = pointers(self._gradients)
        args, after = model.window(
            symbols,
            targets,
            states,
            dropped,
            soft,
            losses=losses.data_ptr(),
            gradients=ctypes.addressof(places),
            learns=True,
        )
        for parameter, gradient in zip(parameters, self._gradients, strict=True):
            parameter.grad = gradient
        model.call("read_window", args)
        _tell(ready, parts.head)
        for number in reversed(range(len(parts.cells))):
            model.call("learn_layer", args, number)
            _tell(ready, parts.cells[number])
        _tell(ready, parts.embedding)
        return losses, after

    def _model(self) -> Opened:
        """Return the model for products of autocast's type, else of float32."""
        cast = torch.is_autocast_enabled("cpu")
        precision = torch.get_autocast_dtype("cpu") if cast else torch.float32
        addresses = [p.data_ptr() for p in self._parts.parameters()]
        opened = self._opened.get(precision)
        if opened is None or opened[0] != addresses:
            opened = addresses, Opened(self._kernels, precision, self._parts)
            self._opened[precision] = opened
        return opened[1]


def pointers(tensors: Sequence[Tensor]) -> "ctypes.Array[ctypes.c_void_p]":
    """Return the addresses of contiguous float32 tensors on the CPU."""
    for tensor in tensors:
        assert tensor.is_contiguous()
        assert tensor.dtype == torch.float32
        assert tensor.device.type == "cpu"
    return _array(tensors)


def _array(tensors: Sequence[Tensor]) -> "ctypes.Array[ctypes.c_void_p]":
    return (ctypes.c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])


def _checked(state: State, cell: ProjectedCell, lanes: int) -> State:
    """Check the tensors that C++ reads by address. Raises: ValueError."""
    wanted, whole = (lanes, cell.hidden_size), []
    if len(state) != len(cell.state_parts):
        raise ValueError(f"a state of {len(state)} parts, expected {len(cell.state_parts)}")
    for part in state:
        if part.shape != wanted or part.dtype != torch.float32:
            raise ValueError(
                f"a state of {part.dtype} {list(part.shape)}, expected float32 {list(wanted)}"
            )
        whole.append(part.contiguous())
    return tuple(whole)


def _tell(ready: Ready | None, module: nn.Module | None) -> None:
    """Call `ready` with the complete gradients of a module's parameters."""
    if ready is None or module is None:
        return
    for parameter in module.parameters():
        assert parameter.grad is not None
        ready(parameter, parameter.grad)
