"""Whole training steps by the kernels: one call from a window's symbols to the updated weights.

Symbols: T time, B lanes, V vocabulary size, H hidden size.
"""

import ctypes
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from charlm.cells.base import GatedCell, State
from charlm.native.interface import TYPES, Kernels, StepArgs, StepSizes, Update


@dataclass(frozen=True)
class Learning:
    """The tensors that a step updates, each a mapping by the names of the parameters.

    averages: None without a running average. loss_sum: the mean loss of every step is added to it.
    """

    weights: Mapping[str, Tensor]
    first: Mapping[str, Tensor]
    second: Mapping[str, Tensor]
    averages: Mapping[str, Tensor] | None
    loss_sum: Tensor


@dataclass(frozen=True)
class Hyperparameters:
    """The constants of the updates; see `AdamW.step` and `update_average`."""

    betas: tuple[float, float]
    weight_decay: float
    clip_norm: float


@dataclass(frozen=True)
class StepShape:
    """The shape of a window, [T, B], the type of matrix products, and dropout's `threshold`: see
    models/dropout.py; 0 without dropout."""

    window: tuple[int, int]
    precision: torch.dtype
    threshold: int


@dataclass(frozen=True)
class StepNumbers:
    """The numbers of one step.

    seed: of dropout. rate: the learning rate. towards: the share by which the averages move.
    count: steps, this one included.
    """

    seed: int
    rate: float
    towards: float
    count: int


class NativeSteps:
    """Training steps of one model on windows of one shape.

    parts: embedding (None for one-hot symbols), cells, head, and the symbol that ends a record.

    Raises: MemoryError.
    """

    def __init__(
        self,
        kernels: Kernels,
        parts: tuple[nn.Embedding | None, Sequence[GatedCell], nn.Linear, int | None],
        learning: Learning,
        constants: Hyperparameters,
        shape: StepShape,
    ) -> None:
        embedding, cells, head, end = parts
        self._kernels, self._name, self._learning = kernels, TYPES[shape.precision], learning
        self._lanes, self._hidden = shape.window[1], cells[0].hidden_size
        self._state_parts = [len(cell.state_parts) for cell in cells]
        sizes = StepSizes(
            kind=kernels.kinds[cells[0].variant].number,
            layers=len(cells),
            T=shape.window[0],
            B=shape.window[1],
            V=head.out_features,
            E=embedding.embedding_dim if embedding is not None else 0,
            H=self._hidden,
            bias=cells[0].bias_ih is not None,
            end=-1 if end is None else end,
            threshold=shape.threshold,
        )
        names = list(learning.weights)
        arrays = (learning.weights, learning.first, learning.second, learning.averages)
        self._step = kernels.call(
            "new_step",
            self._name,
            sizes,
            *(
                None if some is None else _pointers([some[name] for name in names])
                for some in arrays
            ),
        )
        if not self._step:
            raise MemoryError("there is no memory for the buffers of a training step")
        weakref.finalize(self, kernels.call, "delete_step", self._name, ctypes.c_void_p(self._step))
        beta1, beta2 = constants.betas
        self._update = Update(
            beta1=beta1, beta2=beta2, decay=constants.weight_decay, clip=constants.clip_norm
        )

    def take(
        self,
        symbols: Tensor,
        states: Sequence[State],
        anew: Tensor,
        numbers: StepNumbers,
    ) -> tuple[Tensor, list[State]]:
        """Take one step; return the norm of the gradient and the states after the window.

        symbols: inputs and, one further on, targets, [T + 1, B] (int64). anew: 1 where a lane
            begins with a state of zeros, [B] (uint8). seed: of dropout. rate: the learning rate.
            towards: the share by which the averages move. count: steps, this one included.

        Raises: IndexError for a symbol outside V; nothing is changed then.
        """
        part = (self._lanes, self._hidden)
        after = [tuple(torch.empty(part) for _ in range(parts)) for parts in self._state_parts]
        norm = torch.empty(())
        self._update.rate, self._update.towards = numbers.rate, numbers.towards
        self._update.count = numbers.count
        args = StepArgs(
            symbols=symbols.data_ptr(),
            anew=anew.data_ptr(),
            before=ctypes.addressof(before := _pointers([p for state in states for p in state])),
            after=ctypes.addressof(places := _pointers([p for state in after for p in state])),
            seed=numbers.seed,
            update=self._update,
            loss_sum=self._learning.loss_sum.data_ptr(),
            norm=norm.data_ptr(),
            threads=torch.get_num_threads(),
        )
        assert symbols.is_contiguous()
        assert len(before) == len(places)
        if self._kernels.call("take_step", self._name, ctypes.c_void_p(self._step), args):
            raise IndexError("a symbol is not in the vocabulary")
        return norm, after


def _pointers(tensors: Sequence[Tensor]) -> "ctypes.Array[ctypes.c_void_p]":
    """Return the addresses of contiguous float32 tensors on the CPU."""
    for tensor in tensors:
        assert tensor.is_contiguous()
        assert tensor.dtype == torch.float32
        assert tensor.device.type == "cpu"
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
