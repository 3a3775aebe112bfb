"""Units that are held at a value during sampling, from the option `--clamp`.

Importing this imports neither torch nor pydantic, so that mistakes are reported quickly.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from charlm.common.errors import UsageError

if TYPE_CHECKING:
    from charlm.config.schema import ModelConfig


LARGEST = 3.4e38
"""Largest magnitude of a float32, about: no state can be held at more."""


@dataclass(frozen=True)
class Clamp:
    """A unit whose memory is held at a value: its c in an LSTM, else its h."""

    layer: int
    unit: int
    value: float


def read_clamps(given: Sequence[str]) -> list[Clamp]:
    """Parse clamps of the form layer.unit=value. Raises: UsageError for another form."""
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
        if abs(value) > LARGEST:
            raise UsageError(
                f"--clamp {text}: no state can be {parts[3]}",
                f"give a value between -{LARGEST:g} and {LARGEST:g}",
            )
        clamps.append(Clamp(int(parts[1]), int(parts[2]), value))
    return clamps


def parse_clamps(given: Sequence[str], model: "ModelConfig") -> list[Clamp]:
    """Parse clamps of a model's units. Raises: UsageError for another form, or no such unit."""
    layers, units = model.num_layers, model.hidden_size
    clamps = read_clamps(given)
    for text, clamp in zip(given, clamps, strict=True):
        if clamp.layer >= layers or clamp.unit >= units:
            raise UsageError(
                f"--clamp {text}: there is no unit {clamp.unit} in layer {clamp.layer}",
                f"the model has layers 0 to {layers - 1} and units 0 to {units - 1}",
            )
    return clamps
