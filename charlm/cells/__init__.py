"""The cells by name. To add one: a file with its equations, and a line here.

Importing this does not import torch, so that a wrong name or option is refused quickly.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charlm.cells.base import Cell


@dataclass(frozen=True)
class CellEntry:
    """A cell of the table below.

    path: of its class, as in "charlm.cells.gru:GRU". options: the keys of [model], beyond sizes and
    bias, that the constructor of the class takes. gates: the gate blocks of a cell whose weights
    are sampled from without the class; 0 for any other. weight_hh: the number of dimensions of the
    parameter of this name, or 0: 2 for a matrix, which `weight_dropout` drops elements of.
    """

    path: str
    options: tuple[str, ...] = ()
    gates: int = 0
    weight_hh: int = 0

    def variant(self, config: object) -> str:
        """Return `Cell.variant` of the cell with the options of a configuration, [model]."""
        words = (getattr(config, option) for option in self.options)
        name = self.path.partition(":")[2].lower()
        return "_".join([name, *(word for word in words if isinstance(word, str))])

    def load(self) -> "type[Cell]":
        """Import the class."""
        module, _, name = self.path.partition(":")
        cell: type[Cell] = getattr(import_module(module), name)
        return cell


CELLS = {
    "rnn": CellEntry("charlm.cells.rnn:RNN", options=("nonlinearity",), gates=1, weight_hh=2),
    "lstm": CellEntry("charlm.cells.lstm:LSTM", options=("forget_bias",), gates=4, weight_hh=2),
    "gru": CellEntry("charlm.cells.gru:GRU", options=("reset_gate",), gates=3, weight_hh=2),
    "mingru": CellEntry("charlm.cells.mingru:MinGRU", gates=2),
    "minlstm": CellEntry("charlm.cells.minlstm:MinLSTM", options=("forget_bias",), gates=3),
    "slstm": CellEntry("charlm.cells.slstm:SLSTM", options=("forget_bias",), weight_hh=2),
    "mlstm": CellEntry("charlm.cells.mlstm:MLSTM", options=("forget_bias", "heads", "key_size")),
    "mogrifier": CellEntry(
        "charlm.cells.mogrifier:Mogrifier",
        options=("forget_bias", "rounds", "rank"),
        weight_hh=2,
    ),
    "multiplicative": CellEntry(
        "charlm.cells.multiplicative:Multiplicative", options=("forget_bias",), weight_hh=2
    ),
    "indrnn": CellEntry("charlm.cells.indrnn:IndRNN", gates=1, weight_hh=1),
    "deltanet": CellEntry(
        "charlm.cells.deltanet:DeltaNet", options=("forget_bias", "heads", "key_size")
    ),
}
