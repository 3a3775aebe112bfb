"""Which engine computes the cells: the native kernels or torch."""

import ctypes
from dataclasses import dataclass
from functools import cache

import torch

from charlm.config import ModelConfig, TrainConfig
from charlm.errors import UsageError
from charlm.native import build
from charlm.native.build import UnavailableError
from charlm.native.interface import Kernels
from charlm.native.trial import accept

SMALLEST = 32
"""Layers narrower than this are left to torch: nothing to gain, and nothing to wait for."""


@dataclass(frozen=True)
class Engine:
    """kernels: None where torch computes. reason: why, where kernels were wished for."""

    kernels: Kernels | None
    reason: str = ""

    @property
    def name(self) -> str:
        return "torch" if self.kernels is None else "native"


def engine(
    model: ModelConfig, train: TrainConfig, device: torch.device, precision: torch.dtype
) -> Engine:
    """What `train.engine` means for a model here; builds the kernels if need be.

    Raises: UsageError where "native" is asked for and cannot be.
    """
    wanted = train.engine
    why_not = ""
    if wanted == "torch":
        return Engine(None)
    if device.type != "cpu":
        why_not = f"the kernels are for the CPU, not for {device}"
    elif wanted == "auto" and model.hidden_size < SMALLEST:
        return Engine(None)
    else:
        try:
            kernels = Kernels(load())
            if str(precision).removeprefix("torch.") in kernels.types:
                return Engine(kernels)
            why_not = f"the kernels have no {precision} on this processor"
        except UnavailableError as error:
            why_not = str(error)
    if wanted == "native":
        raise UsageError(f"train.engine = native: {why_not}", "use train.engine=auto")
    return Engine(None, why_not if device.type == "cpu" else "")


def builds_now(model: ModelConfig, train: TrainConfig) -> bool:
    """Whether `engine` is about to compile, so that the user can be told."""
    if train.engine == "torch" or (train.engine == "auto" and model.hidden_size < SMALLEST):
        return False
    try:
        path = build.cached()
    except UnavailableError:
        return False
    return not (path.is_file() or path.with_suffix(".refused").is_file())


def built() -> Kernels | None:
    """The kernels where they need not be built first."""
    try:
        return Kernels(load()) if build.cached().is_file() else None
    except UnavailableError:
        return None


@cache
def load() -> ctypes.CDLL:
    """The library, built if need be. Raises: UnavailableError."""
    return build.library(accept)
