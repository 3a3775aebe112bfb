"""Whole training steps by the kernels: one call from a window's symbols to the updated weights.

Symbols: T time, B lanes, V vocabulary size, H hidden size.
"""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charlm.cells.base import State
from charlm.native.interface import Kernels, Update
from charlm.native.model import Dropped, Opened, Parts, SoftTargets


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
    """The shape of a window, [T, B], the type of matrix products, and the `thresholds` of dropout,
    as in `Dropped`."""

    window: tuple[int, int]
    precision: torch.dtype
    thresholds: tuple[int, int]


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
    """Training steps of one model on windows of one shape. Raises: MemoryError."""

    def __init__(
        self,
        kernels: Kernels,
        parts: Parts,
        learning: Learning,
        constants: Hyperparameters,
        shape: StepShape,
    ) -> None:
        self._thresholds, self._learning = shape.thresholds, learning
        self._loss_sum = ctypes.c_void_p(learning.loss_sum.data_ptr())
        arrays = (learning.first, learning.second, learning.averages)
        ordered = [[some[name] for name in learning.weights] if some else None for some in arrays]
        self._model = Opened(kernels, shape.precision, parts, shape.window, ordered)
        self._losses = torch.empty(shape.window)
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
        soft: SoftTargets | None = None,
    ) -> tuple[Tensor, list[State]]:
        """Take one step; return the norm of the gradient and the states after the window.

        symbols: inputs and, one further on, targets, [T + 1, B] (int64). anew: 1 where a lane
            begins with a state of zeros, [B] (uint8). soft: soft targets.

        Raises: IndexError for a symbol outside V; nothing is changed then.
        """
        norm = torch.empty(())
        self._update.rate, self._update.towards = numbers.rate, numbers.towards
        self._update.count = numbers.count
        args, after = self._model.window(
            symbols[:-1],
            symbols[1:],
            states,
            Dropped(numbers.seed, *self._thresholds),
            soft,
            anew=anew.data_ptr(),
            losses=self._losses.data_ptr(),
            learns=True,
        )
        self._model.call("take_step", args, self._update, self._loss_sum, norm)
        return norm, after
