"""The cells and shapes that `charlm bench` measures, each with its configuration.

Importing this does not import torch, so that mistakes are reported quickly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from charlm.common.errors import UsageError
from charlm.config.cell_spec import CellSpec, parse_cell, variants
from charlm.config.layers import ConfigLayers, Rank, settings_layer
from charlm.config.schema import Config

BATCH, LENGTH = 64, 64
SHAPES = ("128x1", "256x1", "512x2")


@dataclass(frozen=True)
class MeasuredModel:
    """A cell at a shape. label: the cell, as the user wrote it."""

    label: str
    config: Config


def read_models(cells: Sequence[str], shapes: Sequence[str]) -> list[MeasuredModel]:
    """Return every cell at every shape; by default all cells, at `SHAPES`.

    cells: see `parse_cell`. shapes: such as 512x2.

    Raises: UsageError, ConfigError.
    """
    specs = [parse_cell(cell) for cell in cells or _every_cell()]
    every = [_sizes(shape) for shape in shapes or SHAPES]
    return [MeasuredModel(spec.label, _config(spec, *own)) for own in every for spec in specs]


def _sizes(shape: str) -> tuple[int, int]:
    """Parse width and layers of a shape such as 512x2. Raises: UsageError."""
    width, _, layers = shape.partition("x")
    if not (width.isdecimal() and layers.isdecimal() and int(width) and int(layers)):
        raise UsageError(f"{shape} is no shape", "write it as in 512x2: width x layers")
    return int(width), int(layers)


def _every_cell() -> list[str]:
    """List all cells in all their variants, in the syntax of `parse_cell`."""
    named = ((name, [f"{key}={value}" for key, value in own.items()]) for name, own in variants())
    return [f"{name}:{','.join(own)}" if own else name for name, own in named]


def _config(spec: CellSpec, hidden_size: int, num_layers: int) -> Config:
    fixed = [
        *(f"model.hidden_size={hidden_size}", f"model.embedding_size={hidden_size}"),
        *(f"model.num_layers={num_layers}", f"train.batch_size={BATCH}", "train.steps=1000000"),
        *(f"train.sequence_length={LENGTH}", "train.state_reset=0", "train.device=cpu"),
    ]
    settings = [f"model.cell={spec.cell}", *spec.settings]
    layer = settings_layer(spec.label, [*settings, *fixed], Rank.CELL)
    return ConfigLayers(spec.label, (layer,)).resolve().config
