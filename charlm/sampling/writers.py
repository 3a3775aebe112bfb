"""Writers: all engines, called with arrays of numpy. Importing this does not import torch."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from charlm.config.schema import SampleConfig
from charlm.models.plain import PlainModel, kernels_for, make_sampler

if TYPE_CHECKING:
    from charlm.models.recurrent import CharModel
    from charlm.sampling.engine import Engine


class Writer(Protocol):
    """An `engine.Engine` called with arrays of numpy: `NativeSampler`, or any by `ArrayEngine`."""

    chunk_size: int

    def read(self, symbols: NDArray[np.int64]) -> object: ...

    def write(
        self, uniforms: NDArray[np.float64], config: SampleConfig, unknown: int | None
    ) -> tuple[NDArray[Any], NDArray[Any]]: ...


def make_writer(
    model: "CharModel | PlainModel",
    num: int,
    precision: str,
    threads: int,
    make: "Callable[[int], Engine] | None" = None,
) -> Writer:
    """Make the fastest writer of `num` texts.

    threads: of torch. make: makes an engine of another kind, for a model that is not plain.

    Raises: UsageError: see `resolve_precision`.
    """
    if isinstance(model, PlainModel):
        kernels = kernels_for(model)
        assert kernels is not None
        return make_sampler(kernels, model, num, precision)
    from charlm.sampling.engine import ArrayEngine, make_engine  # here: it imports torch

    made = make(num) if make else make_engine(model, num, precision)
    return ArrayEngine(made, model.head.weight.device, threads)
