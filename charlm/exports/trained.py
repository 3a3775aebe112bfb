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
    from charlm.models.recurrent import CharModel

STANDARD = {"html": "a page computes", "torch": "torch's modules compute"}
"""The formats that hold an rnn, lstm or gru outside a block only: a sentence's beginning."""


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
    """Read a checkpoint. Raises: CheckpointError."""
    try:
        saved, weights = read_arrays(folder)
    except ValueError as error:
        raise CheckpointError(
            f"the weights of {folder} cannot be read: {error}", "use the run that charlm wrote"
        ) from None
    model = PlainModel(saved.config.model, len(saved.vocabulary), saved.vocabulary.end, weights)
    if not model.fits():
        network(model)
    return Trained(saved, model)


def network(model: PlainModel) -> "CharModel":
    """Return the network of a model, which shares its weights. Raises: CheckpointError."""
    import torch  # here: it takes two seconds

    from charlm.models.recurrent import CharModel

    weights = {name: torch.from_numpy(weight) for name, weight in model.weights.items()}
    return CharModel.from_weights(model.config, model.vocabulary_size, weights, model.end)


def is_standard(model: PlainModel) -> bool:
    """Return True for an rnn, lstm or gru outside a block."""
    return CELLS[model.config.cell].weight_hh == 2 and model.fits()


def refuse_foreign_cell(model: PlainModel, to: str) -> None:
    """Check that a format can hold a model. Raises: UsageError."""
    if to in STANDARD and not is_standard(model):
        kind = model.config.cell + (" in a block" if model.config.has_blocks else "")
        raise UsageError(
            f"{STANDARD[to]} rnn, lstm and gru outside a block, not this {kind}",
            "export it --to onnx or hub, which hold every model",
        )
