"""Choice of a model's backend: the native kernels or torch."""

import logging
from dataclasses import dataclass
from enum import Enum
from functools import cache

import torch

from charlm.backends.step import (
    Computation,
    NativeComputation,
    TorchComputation,
    parts_of,
    thresholds,
)
from charlm.common.errors import UsageError
from charlm.config.schema import TrainConfig
from charlm.models.recurrent import CharModel
from charlm.native import build
from charlm.native.build import UnavailableError
from charlm.native.interface import Kernels
from charlm.native.library import SMALLEST, built, load_library
from charlm.native.steps import Hyperparameters, Learning, NativeSteps, StepShape

log = logging.getLogger(__name__)


class Compiling(Enum):
    """Policy for kernels that are not in the cache: compile and keep, compile, or use torch."""

    KEPT = "and kept there"
    UNKEPT = "for this process alone"
    NEVER = "torch computes instead"


@dataclass(frozen=True)
class Backend:
    """A backend. kernels: None for torch. records_graph: see `TorchComputation`."""

    kernels: Kernels | None
    records_graph: bool = False

    @property
    def name(self) -> str:
        return "torch" if self.kernels is None else "native"

    def training(self, model: CharModel) -> Computation:
        """Return the computation that trains a model."""
        if self.kernels is not None:
            return NativeComputation(model, self.kernels)
        return TorchComputation(model, records_graph=self.records_graph)

    def steps(
        self,
        model: CharModel,
        learning: Learning,
        constants: Hyperparameters,
        window: tuple[int, int],
        precision: torch.dtype,
    ) -> NativeSteps | None:
        """Return training steps on windows of one shape that update the weights in the same call;
        None for torch. Arguments: `NativeSteps`. Raises: MemoryError."""
        if self.kernels is None:
            return None
        shape = StepShape(window, precision, thresholds(model))
        return NativeSteps(self.kernels, parts_of(model), learning, constants, shape)

    def evaluation(self, model: CharModel) -> Computation:
        """Return the computation that evaluates a model, on windows of any shape."""
        if self.kernels is not None:
            return NativeComputation(model, self.kernels)
        return TorchComputation(model)


def choose_backend(
    model: CharModel,
    train: TrainConfig,
    device: torch.device,
    precision: torch.dtype,
    *,
    compiling: Compiling = Compiling.KEPT,
) -> Backend:
    """Resolve `train.backend` for a model on this machine.

    Raises: UsageError if "native" is set but unavailable.
    """
    wanted = train.backend
    if wanted == "torch" or (wanted == "auto" and not _worthwhile(model, device)):
        nvidia = device.type == "cuda" and torch.version.hip is None
        return Backend(None, records_graph=wanted == "auto" and nvidia)
    try:
        kernels = _usable(device, precision, compiling)
        if not kernels.supports(model.layers()):
            raise UnavailableError(f"the kernels have no cell {model.config.cell!r}")
    except UnavailableError as error:
        if wanted == "native" and compiling is not Compiling.NEVER:
            raise UsageError(f"train.backend = native: {error}", "use train.backend=auto") from None
        _warn_once(f"computing with torch: {error}")
        return Backend(None)
    return Backend(kernels)


def _worthwhile(model: CharModel, device: torch.device) -> bool:
    """Return True if "auto" prefers the kernels for a model: only cells with gate blocks have
    kernels."""
    is_large = model.config.hidden_size >= SMALLEST
    return is_large and device.type == "cpu" and bool(model.projected_layers())


def _usable(device: torch.device, precision: torch.dtype, compiling: Compiling) -> Kernels:
    if device.type != "cpu":
        raise UnavailableError(f"the kernels are for the CPU, not for {device}")
    if compiling is Compiling.NEVER and not build.decided():
        raise UnavailableError("the kernels are not compiled yet; the first training will do it")
    kernels = Kernels(load_library(keep=compiling is not Compiling.UNKEPT))
    if str(precision).removeprefix("torch.") not in kernels.types:
        raise UnavailableError(f"the kernels have no {precision} on this processor")
    return kernels


@cache
def _warn_once(message: str) -> None:
    log.warning(message)


def built_kernels(model: CharModel) -> Kernels | None:
    """Return the kernels for a model if they are built and worthwhile, else None."""
    if not _worthwhile(model, model.head.weight.device):
        return None
    kernels = built()
    return kernels if kernels and kernels.supports(model.layers()) else None


def computation_of(model: CharModel) -> Computation:
    """Return a computation by the native kernels if they are built, else by torch."""
    kernels = built_kernels(model)
    return NativeComputation(model, kernels) if kernels else TorchComputation(model)
