"""Which engine computes the cells: the native kernels or torch."""

import ctypes
import logging
from dataclasses import dataclass
from functools import cache

import torch

from charlm.config.schema import ModelConfig, TrainConfig
from charlm.errors import UsageError
from charlm.native import build
from charlm.native.build import UnavailableError
from charlm.native.interface import Kernels
from charlm.native.verify import accept

log = logging.getLogger(__name__)

SMALLEST = 32
"""Layers narrower than this are left to torch: nothing to gain, and nothing to wait for."""


@dataclass(frozen=True)
class Engine:
    """kernels: None where torch computes. replays: whether torch's steps are a CUDA graph."""

    kernels: Kernels | None
    replays: bool = False

    @property
    def name(self) -> str:
        return "torch" if self.kernels is None else "native"


def engine(
    model: ModelConfig,
    train: TrainConfig,
    device: torch.device,
    precision: torch.dtype,
    *,
    may_compile: bool = True,
) -> Engine:
    """What `train.engine` means for a model here.

    may_compile: build the kernels if need be; else they are used only where they are built.

    Raises: UsageError where "native" is asked for and cannot be.
    """
    wanted = train.engine
    if wanted == "torch" or (wanted == "auto" and not worthwhile(model, device)):
        nvidia = device.type == "cuda" and torch.version.hip is None
        return Engine(None, replays=wanted == "auto" and nvidia)
    try:
        kernels = _usable(device, precision, may_compile)
    except UnavailableError as error:
        if wanted == "native" and may_compile:
            raise UsageError(f"train.engine = native: {error}", "use train.engine=auto") from None
        _warn_once(f"computing with torch: {error}")
        return Engine(None)
    return Engine(kernels)


def worthwhile(model: ModelConfig, device: torch.device) -> bool:
    """Whether "auto" wishes for the kernels."""
    return device.type == "cpu" and model.hidden_size >= SMALLEST


def _usable(device: torch.device, precision: torch.dtype, may_compile: bool) -> Kernels:
    if device.type != "cpu":
        raise UnavailableError(f"the kernels are for the CPU, not for {device}")
    if not may_compile and not build.decided():
        raise UnavailableError("the kernels are not compiled yet; the first training will do it")
    kernels = Kernels(load())
    if str(precision).removeprefix("torch.") not in kernels.types:
        raise UnavailableError(f"the kernels have no {precision} on this processor")
    return kernels


@cache
def _warn_once(message: str) -> None:
    log.warning(message)


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
