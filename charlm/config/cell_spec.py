"""Specifications of cells by the user: a name and, after a colon, settings for it.

Importing this imports neither torch nor pydantic, so that mistakes are reported quickly.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from charlm.cells import CELLS
from charlm.common.errors import UsageError
from charlm.common.wording import suggestion

CELL_NAMES = tuple(CELLS)
"""The names of all cells, in the order in which they are listed and coloured."""
COMMA = re.compile(r",(?![^\[]*\])")
"""A comma between settings, not inside a list."""


@dataclass(frozen=True)
class CellSpec:
    """A cell and its settings. label: as it was written. settings: "section.key=value" each."""

    label: str
    cell: str
    settings: tuple[str, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Dotted keys of the settings."""
        return tuple(setting.partition("=")[0] for setting in self.settings)


def parse_cell(label: str) -> CellSpec:
    """Parse a cell such as "lstm" or "gru:reset_gate=before,bias=false".

    A key without a section belongs to [model]. Values are validated later, by the schema.

    Raises: UsageError for an unknown cell, or a setting that is not key=value.
    """
    cell, colon, listed = label.partition(":")
    if cell not in CELLS:
        raise UsageError(
            f"there is no cell {cell!r}{suggestion(cell, CELLS)}",
            f"the cells are {', '.join(CELLS)}, each with settings of its own if need be: "
            "gru:reset_gate=before,bias=false",
        )
    settings = [_setting(label, setting) for setting in COMMA.split(listed) if colon]
    return CellSpec(label, cell, tuple(settings))


def _setting(label: str, setting: str) -> str:
    """Parse one setting of a cell into "section.key=value". Raises: UsageError."""
    key, equals, value = setting.partition("=")
    if key and equals and value:
        return f"{key if '.' in key else f'model.{key}'}={value}"
    if not setting:
        what = "nothing follows the colon" if label.endswith(":") else "nothing follows a comma"
    elif key and equals:
        what = f"{key} has no value"
    else:
        what = f"{setting!r} is not key=value"
    raise UsageError(f"{label}: {what}", "write it as in gru:reset_gate=before,bias=false")


def foreign_options(cell: str) -> list[str]:
    """List the keys of [model] that apply to other cells only."""
    every = {key for other in CELLS.values() for key in other.options}
    own = {*CELLS[cell].options} | ({"weight_dropout"} if CELLS[cell].weight_hh == 2 else set())
    return sorted((every | {"weight_dropout"}) - own)


def variants() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every cell with every combination of its enumerated options: the cell's name, and the
    options that are not at their default."""
    from charlm.config.schema import ModelConfig  # here: pydantic takes a moment

    for name, cell in CELLS.items():
        fields = {key: ModelConfig.model_fields[key] for key in cell.options}
        choices = {
            key: get_args(field.annotation)
            for key, field in fields.items()
            if get_origin(field.annotation) is Literal
        }
        for values in itertools.product(*choices.values()):
            chosen = zip(choices, values, strict=True)
            yield name, {key: value for key, value in chosen if value != fields[key].default}
