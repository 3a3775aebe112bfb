"""Sampling with some units held at a value, to test the effect of a unit."""

from collections.abc import Sequence

import torch
from torch import Tensor

from charlm.config.clamps import Clamp
from charlm.models.recurrent import CharModel
from charlm.sampling.engine import StepwiseEngine


class ClampedEngine(StepwiseEngine):
    """An `Engine` by the equations for N texts, with units held after every symbol."""

    def __init__(self, model: CharModel, clamps: Sequence[Clamp], num: int) -> None:
        self._model, self._clamps = model, clamps
        self._states = model.initial_states(num)
        self._logits = model.head.weight.new_zeros(num, model.vocabulary_size)

    @torch.inference_mode()
    def read(self, symbols: Tensor) -> Tensor:
        """Read one more symbol in every text; return the logits."""
        x = self._model.vectors(symbols)
        self._states = self._model.begin_anew(self._states, symbols)
        for layer, cell in enumerate(self._model.layers()):
            before = self._states[layer]
            after = cell.step(x, before)
            for clamp in self._clamps:
                if clamp.layer == layer:
                    after = cell.hold(x, before, after, clamp.unit, clamp.value)
            self._states[layer] = after
            x = after[0]
        self._logits = self._model.head(x)
        return self._logits
