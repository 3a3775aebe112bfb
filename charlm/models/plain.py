"""A model's weights as arrays of numpy: all that the kernels need to read and to write texts.

Importing this does not import torch.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from charlm.cells import CELLS
from charlm.common.errors import CheckpointError, UsageError
from charlm.config.schema import ModelConfig
from charlm.native.interface import UNBOUNDED, Kernels
from charlm.native.library import SMALLEST, built
from charlm.native.writing import NativeSampler, SampledCell, SampledParts

if TYPE_CHECKING:
    from charlm.models.recurrent import CharModel

Arrays = Mapping[str, NDArray[np.float32]]
PRECISIONS = ("auto", "float32", "bfloat16", "int8")


def no_prediction() -> CheckpointError:
    """Make the error for finite weights whose predictions are not finite."""
    return CheckpointError(
        "the model predicts nothing: its weights have grown out of bounds",
        "use another checkpoint of the run: --checkpoint STEP",
    )


@dataclass(frozen=True)
class PlainModel:
    """A model of cells with gate blocks, without its computation. weights: by their names in
    `CharModel`; end: as there."""

    config: ModelConfig
    vocabulary_size: int
    end: int | None
    weights: Arrays

    @classmethod
    def of(cls, model: "CharModel") -> "PlainModel":
        """Return the weights of a model on the CPU; they share its memory."""
        weights = {name: weight.numpy() for name, weight in model.state_dict().items()}
        return cls(model.config, model.vocabulary_size, model.end, weights)

    @property
    def variant(self) -> str:
        """Name of the cells' equations, see `Cell.variant`."""
        return CELLS[self.config.cell].variant(self.config)

    def cell(self, layer: int) -> Arrays:
        """Return the weights of one layer, by their names in the cell."""
        own = f"cells.{layer}."
        return {
            name.removeprefix(own): weight
            for name, weight in self.weights.items()
            if name.startswith(own)
        }

    def fits(self) -> bool:
        """Return True if the names, shapes and types of the weights are those of a `CharModel` of
        cells with gate blocks."""
        gates = CELLS[self.config.cell].gates
        found = {name: weight.shape for name, weight in self.weights.items()}
        is_float = all(weight.dtype == np.float32 for weight in self.weights.values())
        return gates > 0 and is_float and found == self._shapes(gates)

    def _shapes(self, gates: int) -> dict[str, tuple[int, ...]]:
        config, V, H = self.config, self.vocabulary_size, self.config.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"head.weight": (V, H), "head.bias": (V,)}
        if config.embedding_size:
            shapes["embedding.weight"] = (V, config.embedding_size)
        recurrent = CELLS[config.cell].weight_hh
        sides = ("ih", "hh") if recurrent == 2 else ("ih",)
        for layer in range(config.num_layers):
            size = H if layer else config.embedding_size or V
            for side in sides:
                columns = size if side == "ih" else H
                shapes[f"cells.{layer}.weight_{side}"] = (gates * H, columns)
                if config.bias:
                    shapes[f"cells.{layer}.bias_{side}"] = (gates * H,)
            if recurrent == 1:
                shapes[f"cells.{layer}.weight_hh"] = (H,)
        return shapes


def resolve_precision(kernels: Kernels | None, precision: str, variants: Collection[str]) -> str:
    """Return the precision of the weights for sampling.

    kernels: for the model; None for torch. precision: "auto" is bfloat16 if there are kernels, and
        the processor supports it, else float32. variants: of the model's cells.

    Raises: UsageError for an unavailable precision.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision} is not known", f"use {', '.join(PRECISIONS)}")
    if precision == "auto":
        precision = "bfloat16" if kernels and "bfloat16" in kernels.types else "float32"
    if precision != "float32" and (kernels is None or precision not in kernels.types):
        raise UsageError(
            f"weights in {precision} need the native kernels, which are not here for this model",
            "use --precision float32, or train a model on this machine first",
        )
    if precision == "int8" and (wide := UNBOUNDED.intersection(variants)):
        raise UsageError(
            "weights in int8 need states between -1 and 1; "
            f"those of {', '.join(sorted(wide))} have no bound",
            "use bfloat16",
        )
    return precision


def kernels_for(model: PlainModel) -> Kernels | None:
    """Return the kernels if they are compiled, and for such a model; else None."""
    if model.config.hidden_size < SMALLEST or not model.fits():
        return None
    kernels = built()
    return kernels if kernels and model.variant in kernels.kinds else None


def make_sampler(
    kernels: Kernels, model: PlainModel, num: int, precision: str = "auto"
) -> NativeSampler:
    """Make a sampler for `num` texts. Raises: UsageError: see `resolve_precision`."""
    weights = model.weights
    layers = range(model.config.num_layers)
    cells = [SampledCell.of(model.variant, model.cell(layer)) for layer in layers]
    head = weights["head.weight"], weights["head.bias"]
    parts = SampledParts(cells, weights.get("embedding.weight"), *head, model.end)
    name = resolve_precision(kernels, precision, {model.variant})
    return NativeSampler(kernels, name, parts, num)
