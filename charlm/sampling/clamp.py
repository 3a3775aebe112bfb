"""Writing with some units held where they are put: does a unit do what it seems to do?"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charlm.errors import UsageError
from charlm.models.recurrent import CharModel
from charlm.sampling.engine import StepwiseEngine


@dataclass(frozen=True)
class Clamp:
    """Holds the memory of a unit at a value: of an LSTM its c, else its h."""

    layer: int
    unit: int
    value: float


def parse_clamps(given: Sequence[str], model: CharModel) -> list[Clamp]:
    """Read clamps written as layer.unit=value. Raises: UsageError for one that cannot be."""
    layers, units = model.config.num_layers, model.config.hidden_size
    found = []
    for text in given:
        parts = re.fullmatch(r"(\d{1,9})\.(\d{1,9})=(.{1,40})", text)
        try:
            value = float(parts[3]) if parts else math.nan
        except ValueError:
            value = math.nan
        if parts is None or not math.isfinite(value):
            raise UsageError(
                f"--clamp {text} is not layer.unit=value", "write it as in --clamp 0.17=2.5"
            )
        layer, unit = int(parts[1]), int(parts[2])
        if layer >= layers or unit >= units:
            raise UsageError(
                f"--clamp {text}: there is no unit {unit} in layer {layer}",
                f"the model has layers 0 to {layers - 1} and units 0 to {units - 1}",
            )
        found.append(Clamp(layer, unit, value))
    return found


class ClampedEngine(StepwiseEngine):
    """Writes N texts by the equations, with units held after every symbol. See `Engine`."""

    def __init__(self, model: CharModel, clamps: Sequence[Clamp], num: int) -> None:
        self._model, self._clamps = model, clamps
        self._states = model.initial_states(num)
        self._logits = model.head.weight.new_zeros(num, model.vocabulary_size)

    @torch.inference_mode()
    def read(self, symbols: Tensor) -> Tensor:
        """Read one more symbol in every text; return the logits."""
        given = self._model.vectors(symbols)
        self._states = self._model.begin_anew(self._states, symbols)
        for layer, cell in enumerate(self._model.layers()):
            before = self._states[layer]
            after = cell.step(given, before)
            for clamp in self._clamps:
                if clamp.layer == layer:
                    after = cell.hold(given, before, after, clamp.unit, clamp.value)
            self._states[layer] = after
            given = after[0]
        self._logits = self._model.head(given)
        return self._logits
