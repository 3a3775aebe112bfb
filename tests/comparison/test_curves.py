"""Learning curves of a comparison, and how much longer the best cell trains to beat counting."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import carried_out, planned

from charlm.comparison.curve_points import with_points
from charlm.comparison.curves import Curve
from charlm.comparison.curves import describe as describe_curves
from charlm.comparison.execution import RUNS
from charlm.comparison.extended_runs import LongerRun, sentence
from charlm.comparison.plan import planned_runs
from charlm.comparison.runs import Begun, Runner


def curve(label: str, bits: Sequence[float], seconds: float = 10.0) -> Curve:
    """Make a curve that is evaluated every 10 steps of 10 characters, `seconds` apart."""
    places = range(1, len(bits) + 1)
    return Curve(
        label,
        [100.0 * n for n in places],
        [seconds * n for n in places],
        list(bits),
        [10.0 * n for n in places],
    )


def test_curves_cross_where_the_straight_lines_between_evaluations_do() -> None:
    a, b = curve("a", [4.0, 3.0, 2.0, 1.5]), curve("b", [3.0, 2.5, 2.5, 2.0])
    found = describe_curves([a, b])
    # From 0.5 above at 200 characters to 0.5 below at 300.
    place = {"characters": 250, "step": 25, "seconds": [25.0, 25.0]}
    assert found["crossings"] == [{"cells": ["a", "b"], **place, "ahead": "a"}]
    assert found["crossings_by_seconds"] == [{"cells": ["a", "b"], "seconds": 25.0, "ahead": "a"}]
    assert found["sentences"][-3:-1] == [
        "a and b cross at step 25 (250 characters, 25 s of a and 25 s of b): a is ahead from there "
        "on.",
        "By the clock a and b cross after 25 s of training: a is ahead from there on.",
    ]
    assert describe_curves([a, a])["sentences"][-2] == "No two curves cross."


def test_curves_of_unlike_speed_cross_by_the_clock_alone() -> None:
    # a is ahead at every step, but a step of b takes half the time: at 20 s both curves have begun,
    # a with 3.0 and b with 3.5; at 40 s a has 2.0 and b 1.5.
    a, b = curve("a", [3.0, 2.0, 1.0, 0.9], 20.0), curve("b", [4.0, 3.5, 3.0, 1.5], 10.0)
    found = describe_curves([a, b])
    assert found["crossings"] == []
    assert found["crossings_by_seconds"] == [{"cells": ["a", "b"], "seconds": 35.0, "ahead": "b"}]
    assert found["sentences"][-2].startswith("By the clock a and b cross after 35 s")
    assert found["sentences"][-1] == (
        "The order changes: at equal characters a < b in bits, at equal seconds b < a."
    )


def test_order_is_given_where_the_first_curve_ends() -> None:
    a = replace(curve("a", [3.0, 2.0, 1.0]), operations=4)
    b = replace(curve("b", [3.5, 2.5, 1.5]), operations=2)
    orders = describe_curves([a, b])["orders"]
    # b ends after 600 multiply-adds, with 1.5; a has 2.5 after as many, between 400 and 800.
    assert orders == [
        {"equal": "characters", "at": 300, "cells": ["a", "b"], "bits_per_character": [1, 1.5]},
        {"equal": "seconds", "at": 30, "cells": ["a", "b"], "bits_per_character": [1, 1.5]},
        {"equal": "operations", "at": 600, "cells": ["b", "a"], "bits_per_character": [1.5, 2.5]},
    ]
    said = describe_curves([a, b])["sentences"][-1]
    assert said.endswith("at equal characters a < b in bits, at equal multiply-adds b < a.")
    same = describe_curves([a, replace(b, operations=4)])["sentences"][-1]
    assert same == "The order is the same by characters, seconds and multiply-adds: a < b in bits."


def test_several_crossings_are_counted_and_the_last_is_named() -> None:
    a, b = curve("a", [4.0, 2.0, 3.0, 1.0]), curve("b", [3.0, 3.0, 2.0, 2.0])
    found = describe_curves([a, b])
    assert [one["step"] for one in found["crossings"]] == [15, 25, 35]
    assert [one["ahead"] for one in found["crossings"]] == ["a", "b", "a"]
    assert "a and b cross 3 times, last at step 35 (" in " ".join(found["sentences"])


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


@pytest.mark.parametrize(
    ("steps", "configured", "every"),
    [(300, 400, 30), (2000, 400, 200), (2000, 100, 100), (12, 6, 1), (7, 250, 1), (1, 1, 1)],
)
def test_curve_has_ten_points_for_any_number_of_steps(
    text_file: Path, tmp_path: Path, steps: int, configured: int, every: int
) -> None:
    changes = (f"train.steps={steps}", f"train.eval_every={configured}", "train.patience=3")
    given = planned(text_file, ["rnn"], *changes)
    train = with_points(given, tmp_path, {"rnn": 1.0}, earlier=tmp_path).entries[0].config.train
    assert train.eval_every == every
    assert train.steps // train.eval_every >= min(10, steps)
    # as many steps without a new best as configured, at least
    assert 3 * configured <= train.patience * train.eval_every < 3 * configured + every


def test_curve_of_a_time_budget_has_ten_points_in_the_time(text_file: Path, tmp_path: Path) -> None:
    changes = ("train.steps=1000000", "train.seconds=60", "train.eval_every=5000")
    given = planned(text_file, ["rnn"], *changes)
    train = with_points(given, tmp_path, {"rnn": 0.1}, earlier=tmp_path).entries[0].config.train
    assert train.eval_every == 50  # of 600 steps


def test_every_run_of_a_comparison_has_ten_points(finished: tuple[Path, Path, dict]) -> None:
    result = finished[2]
    assert all(len(run["curve"]) == 12 for run in result["runs"])  # of 12 steps


def test_comparison_of_an_earlier_version_keeps_its_interval(
    text_file: Path, tmp_path: Path
) -> None:
    before = planned(text_file, ["rnn"], seeds=1)  # evaluates twice, as earlier versions did
    runs = planned_runs(before, tmp_path / RUNS, {"rnn": 0.01})
    assert list(Runner(before.corpus).run(runs))
    result, events = carried_out(planned(text_file, ["lstm", "rnn"], seeds=1), tmp_path)
    reused = {e.planned.name: e.reused for e in events if isinstance(e, Begun)}
    assert (reused["rnn, seed 0"], reused["lstm, seed 0"]) == (True, False)
    assert [len(run["curve"]) for run in result["runs"]] == [2, 2]  # all cells alike


def test_of_many_cells_only_crossings_with_the_best_are_described() -> None:
    curves = [curve(f"c{k}", [3.0 + 0.1 * k, 2.0 - 0.1 * k, 1.5 - 0.1 * k]) for k in range(4)]
    found = describe_curves(curves)
    assert len({tuple(one["cells"]) for one in found["crossings"]}) == 6
    crossing = [one for one in found["sentences"] if " cross at step " in one]
    assert len(crossing) == 3
    assert all("c3" in one for one in crossing)
    (left,) = [one for one in found["sentences"] if "of other pairs" in one]
    pairs = len({tuple(one["cells"]) for one in found["crossings_by_seconds"]}) - sum(
        "By the clock" in one for one in found["sentences"]
    )
    assert left.startswith(f"{3 + pairs} crossings")


def test_curve_stays_at_its_last_value_beyond_its_end() -> None:
    a = curve("a", [4.0, 3.0, 2.0])
    assert [a.at(place) for place in (0.0, 150.0, 300.0, 301.0, 1e9)] == [4.0, 3.5, 2.0, 2.0, 2.0]
    assert a.at(1e9, "seconds") == 2.0
    assert curve("b", [4.0]).at(7.0) == 4.0
