"""Units that are held at a value during sampling, from the option `--clamp`.

Importing this does not import torch, so that mistakes are reported quickly.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from charlm.common.errors import UsageError
from charlm.config.schema import ModelConfig


@dataclass(frozen=True)
class Clamp:
    """A unit whose memory is held at a value: its c in an LSTM, else its h."""

    layer: int
    unit: int
    value: float


def parse_clamps(given: Sequence[str], model: ModelConfig) -> list[Clamp]:
    """Parse clamps of the form layer.unit=value. Raises: UsageError for an invalid one."""
    layers, units = model.num_layers, model.hidden_size
    clamps = []
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
        clamps.append(Clamp(layer, unit, value))
    return clamps
