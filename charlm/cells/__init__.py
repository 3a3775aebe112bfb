"""The cells by name. To add one: a file with its equations, and a line here."""

from charlm.cells.base import Cell, GatedCell, State
from charlm.cells.gru import GRU
from charlm.cells.lstm import LSTM
from charlm.cells.rnn import RNN

CELLS: dict[str, type[Cell]] = {
    "rnn": RNN,
    "lstm": LSTM,
    "gru": GRU,
}

__all__ = ["CELLS", "GRU", "LSTM", "RNN", "Cell", "GatedCell", "State"]
