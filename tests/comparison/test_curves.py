"""Learning curves of a comparison, and how much longer the best cell trains to beat counting."""

from collections.abc import Sequence

import pytest

from charlm.comparison.curves import Curve
from charlm.comparison.curves import describe as describe_curves
from charlm.comparison.extended_runs import LongerRun, sentence


def curve(label: str, bits: Sequence[float]) -> Curve:
    """Make a curve that is evaluated every 100 characters and every 10 seconds."""
    places = range(1, len(bits) + 1)
    return Curve(label, [100.0 * n for n in places], [10.0 * n for n in places], list(bits))


def test_curves_cross_where_the_straight_lines_between_evaluations_do() -> None:
    a, b = curve("a", [4.0, 3.0, 2.0, 1.5]), curve("b", [3.0, 2.5, 2.5, 2.0])
    found = describe_curves([a, b])
    # From 0.5 above at 200 characters to 0.5 below at 300.
    assert found["crossings"] == [{"cells": ["a", "b"], "characters": 250, "ahead": "a"}]
    assert "a and b cross after 250 (a ahead) characters." in found["sentences"]
    assert describe_curves([a, a])["sentences"][-1] == "No two curves cross."


def test_last_fall_is_that_of_the_last_fifth() -> None:
    bits = [3.0, 2.0, 1.6, 1.4, 1.1]
    assert curve("a", bits).last_fall() == pytest.approx(1.4 - 1.1)
    assert curve("a", [3.0]).last_fall() is None
    falls, rises = curve("a", bits), curve("b", [3.0, 2.0, 1.6, 1.4, 1.5])
    said = describe_curves([falls, rises])["sentences"]
    assert said[0].endswith("these curves still fall: a by 0.300 bits.")
    assert said[1].endswith("these curves rise again: b by 0.100 bits.")


def test_seconds_to_a_target_are_read_from_the_curve() -> None:
    a = curve("a", [4.0, 3.0, 2.0])
    assert a.seconds_to(2.5) == pytest.approx(25.0)
    assert a.seconds_to(5.0) == 10.0
    assert a.seconds_to(1.0) is None


def test_longer_runs_are_told_by_what_they_reach() -> None:
    twice, four = LongerRun("gru", 2, 20, 2.4, False), LongerRun("gru", 4, 40, 2.0, True)
    assert sentence([]) == ""
    assert (
        sentence([twice, four]) == "With 4 times as many steps gru beats it: 2.000 bits (one seed)."
    )
    assert sentence([twice]).startswith("2 times as many steps are not enough")
    assert sentence([LongerRun("gru", 2, 20, None, False)]).endswith("gru diverges (one seed).")
