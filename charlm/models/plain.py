"""A model's weights as arrays of numpy: all that sampling by the kernels needs.

Importing this does not import torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from charlm.cells import CELLS
from charlm.common.errors import CheckpointError
from charlm.config.schema import ModelConfig

if TYPE_CHECKING:
    from charlm.models.recurrent import CharModel

Arrays = Mapping[str, NDArray[np.float32]]


def no_prediction() -> CheckpointError:
    """Make the error for finite weights whose predictions are not finite."""
    return CheckpointError(
        "the model predicts nothing: its weights have grown out of bounds",
        "use another checkpoint of the run: --checkpoint STEP",
    )


@dataclass(frozen=True)
class PlainModel:
    """A model of gated cells, without its computation. weights: by their names in `CharModel`; end:
    as there."""

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
        gated cells."""
        gates = CELLS[self.config.cell].gates
        found = {name: weight.shape for name, weight in self.weights.items()}
        is_float = all(weight.dtype == np.float32 for weight in self.weights.values())
        return gates > 0 and is_float and found == self._shapes(gates)

    def _shapes(self, gates: int) -> dict[str, tuple[int, ...]]:
        config, V, H = self.config, self.vocabulary_size, self.config.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"head.weight": (V, H), "head.bias": (V,)}
        if config.embedding_size:
            shapes["embedding.weight"] = (V, config.embedding_size)
        for layer in range(config.num_layers):
            size = H if layer else config.embedding_size or V
            shapes[f"cells.{layer}.weight_ih"] = (gates * H, size)
            shapes[f"cells.{layer}.weight_hh"] = (gates * H, H)
            for bias in ("bias_ih", "bias_hh") if config.bias else ():
                shapes[f"cells.{layer}.{bias}"] = (gates * H,)
        return shapes
