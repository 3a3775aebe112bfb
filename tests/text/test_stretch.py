"""Stretches: each symbol in one piece, each window in one piece, positions with enough before."""

import numpy as np
import pytest

from charlm.text.stretch import Stretch

TEXT = np.arange(100)


@pytest.mark.parametrize("start", [0, 1, 7])
@pytest.mark.parametrize("size", [0, 1, 5, 13, 200])
@pytest.mark.parametrize("window", [0, 1, 4, 30, 150])
def test_pieces_are_whole_windows_and_hold_each_symbol_once(
    start: int, size: int, window: int
) -> None:
    stretch = Stretch(TEXT, start, 98)
    pieces = list(stretch.pieces(size, window))
    assert np.array_equal(np.concatenate([piece.read() for piece in pieces]), stretch.read())
    for piece in pieces[:-1]:
        scored = len(piece.with_context())  # windows begin after the first symbol of a text
        assert scored == max(size, 1) if not window else scored % window == 0
        assert np.array_equal(stretch.read()[piece.within(stretch)], piece.read())


def test_positions_have_enough_text_before_them() -> None:
    stretch = Stretch(TEXT, 20, 60)
    assert stretch.positions(3, 10).tolist() == [20, 39, 59]
    assert stretch.positions(2, 50).tolist() == [50, 59]
    assert stretch.positions(9, 60).tolist() == []
    assert stretch.with_history(np.array([30, 59]), 2).tolist() == [[28, 57], [29, 58], [30, 59]]


def test_ends_of_a_stretch() -> None:
    stretch = Stretch(TEXT, 20, 60)
    assert stretch.head(3).read().tolist() == [20, 21, 22]
    assert stretch.tail(3).read().tolist() == [57, 58, 59]
    assert len(stretch.head(100)) == len(stretch.tail(100)) == 40
    assert [len(Stretch(TEXT, 0, stop).with_context()) for stop in (0, 1, 2)] == [0, 0, 1]
