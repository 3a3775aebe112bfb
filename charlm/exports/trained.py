"""A trained model to be exported: its weights as arrays, and its checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from charlm.cells import CELLS
from charlm.common.errors import CheckpointError, UsageError
from charlm.models.plain import PlainModel
from charlm.runs.checkpoint import Checkpoint, read_arrays
from charlm.runs.finding import home_of

if TYPE_CHECKING:
    from charlm.inspection.units import Unit


@dataclass(frozen=True)
class Trained:
    """A model and its checkpoint. units: those that follow a property of the run's text, for a
    page."""

    saved: Checkpoint
    model: PlainModel
    units: "Sequence[Unit]" = ()

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return home_of(self.saved.folder.absolute()).name


def open_trained(folder: Path) -> Trained:
    """Read a checkpoint. Raises: CheckpointError; UsageError for a cell without an export."""
    try:
        saved, weights = read_arrays(folder)
    except ValueError as error:
        raise CheckpointError(
            f"the weights of {folder} cannot be read: {error}", "use the run that charlm wrote"
        ) from None
    model = PlainModel(saved.config.model, len(saved.vocabulary), saved.vocabulary.end, weights)
    refuse_foreign_cell(model)
    return Trained(saved, model)


def refuse_foreign_cell(model: PlainModel) -> None:
    """Check that the formats can hold a model. Raises: UsageError."""
    if not (CELLS[model.config.cell].weight_hh == 2 and model.fits()):
        raise UsageError(
            f"there is no export of the cell {model.config.cell}",
            "html, onnx, torch and hub hold rnn, lstm and gru",
        )
