"""The cells by name. Adding one: a file with its equations, a line here, its name in the schema."""

from charlm.cells.base import Cell, State
from charlm.cells.gru import GRU
from charlm.cells.lstm import LSTM
from charlm.cells.rnn import RNN

CELLS: dict[str, type[Cell]] = {"rnn": RNN, "lstm": LSTM, "gru": GRU}

__all__ = ["CELLS", "GRU", "LSTM", "RNN", "Cell", "State"]
