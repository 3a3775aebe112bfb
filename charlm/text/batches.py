"""The train split as parallel lanes, read window by window for truncated BPTT."""

import numpy as np
import torch
from torch import Tensor

from charlm.common.errors import DataError
from charlm.text.symbols import SymbolSource, refuse_out_of_bounds
from charlm.text.vocabulary import Symbols

READ_AHEAD = 1 << 16
"""Symbols read at a time, so that the cost of locating the lanes is spread over many windows."""


class BatchStream:
    """B contiguous lanes of the text, read side by side; window w is the next T symbols of each.

    One pass over the text has `windows` windows; the rest, at most B * T symbols, is left out. A
    window begins with the states in which the one before ended; window 0 begins with zeros.

    Raises: DataError for a text that does not fill one window, and in `window` for a symbol that is
        not in the vocabulary.
    """

    def __init__(
        self, symbols: SymbolSource, vocabulary_size: int, batch_size: int, sequence_length: int
    ) -> None:
        needed = batch_size * sequence_length + 1
        if len(symbols) < 2:
            raise DataError(
                f"the train split comes to {len(symbols)} symbol{'s' * (not len(symbols))}",
                "use a longer text: a model learns to predict a second one from a first",
            )
        if len(symbols) < needed:
            raise DataError(
                f"the train split has {len(symbols):,} symbols, but one step of batch_size "
                f"{batch_size} x sequence_length {sequence_length} reads {needed:,}",
                "use a longer text, or lower train.batch_size or train.sequence_length; left out, "
                "those of a preset are fitted to the text",
            )
        self.vocabulary_size, self.sequence_length = vocabulary_size, sequence_length
        lane = (len(symbols) - 1) // batch_size
        self.windows = lane // sequence_length
        self._symbols, self._begins = symbols, lane * np.arange(batch_size)
        self._ahead = max(1, READ_AHEAD // (batch_size * sequence_length))
        self._held: dict[range, tuple[int, Symbols]] = {}

    def window(self, cursor: int, lanes: range | None = None) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of one window, [T, B] each. Arguments: `symbols`."""
        both = self.symbols(cursor, lanes)
        return both[:-1], both[1:]

    def symbols(self, cursor: int, lanes: range | None = None) -> Tensor:
        """Return the symbols of one window and the next one of each lane, [T + 1, B] (int64).

        lanes: lanes to read; None reads all.
        """
        wanted = lanes or range(len(self._begins))
        number, at = divmod(cursor, self._ahead)
        held = self._held.get(wanted)
        if held is None or held[0] != number:
            held = self._held[wanted] = number, self._read(number, wanted)
        start = at * self.sequence_length
        symbols = held[1][:, start : start + self.sequence_length + 1].T
        return torch.from_numpy(symbols.astype(np.int64, order="C"))

    def _read(self, number: int, wanted: range) -> Symbols:
        """Return the symbols of group `number` of windows. Shapes: [B, N], a lane in each row."""
        first = number * self._ahead
        count = (min(first + self._ahead, self.windows) - first) * self.sequence_length + 1
        begins = self._begins[wanted.start : wanted.stop]
        starts = (begins + first * self.sequence_length).tolist()
        lanes = np.stack([np.asarray(self._symbols[one : one + count]) for one in starts])
        refuse_out_of_bounds(lanes, self.vocabulary_size)
        return lanes
