"""The random search of `compare --search`: the same points for every cell, and its result."""

import html
import itertools
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from conftest import SEARCHED, carried_out, planned

from charlm.common.errors import UsageError
from charlm.common.files import json_bytes
from charlm.comparison import random_search, trials
from charlm.comparison.execution import Comparison
from charlm.comparison.plan import Plan, PlannedRun
from charlm.comparison.request import CompareRequest
from charlm.comparison.runs import Begun
from charlm.comparison.searches import orders, search_result, search_sentences
from charlm.comparison.statistics import METHODS
from charlm.comparison.trials import Trial
from charlm.reports import comparison as report

OWN = ("train.learning_rate=0.01", "model.dropout=0.0")
CELLS = ["rnn", "gru:train.learning_rate=0.02,dropout=0.3"]


def runs_of(given: Plan) -> dict[str, list[PlannedRun]]:
    """Return the trials of each cell, in order."""
    found = random_search.next_runs(given, [], Path("tune"), dict.fromkeys(CELLS, 1.0))
    assert len({run.path for run in found}) == len(found)
    labels = [entry.label for entry in given.entries]
    return {label: [run for run in found if run.entry.label == label] for label in labels}


def test_every_cell_tries_the_same_points_on_a_seed_of_their_own(text_file: Path) -> None:
    given = planned(text_file, CELLS, *OWN, search=20)
    rnn, gru = runs_of(given).values()
    assert len(rnn) == len(gru) == 20
    for one, other in zip(rnn, gru, strict=True):
        rate, dropout = one.config.train.learning_rate, one.config.model.dropout
        assert 0.01 / 8 <= rate <= 0.01 * 8
        assert 0 <= dropout <= 0.25
        assert other.config.train.learning_rate == pytest.approx(2 * rate, rel=1e-3)
        assert other.config.model.dropout == pytest.approx(dropout * 0.6 / 0.25, rel=1e-3)
        assert one.steps == other.steps == given.entries[0].config.train.steps
        assert one.config.train.seed == other.config.train.seed == 2**32 - 1
    assert len({run.config.train.learning_rate for run in rnn}) == 20
    more = runs_of(planned(text_file, CELLS, *OWN, search=30, seeds=5))["rnn"]
    assert [run.config for run in more[:20]] == [run.config for run in rnn]  # no other draw
    other_seed = runs_of(planned(text_file, CELLS, *OWN, "train.seed=7", search=20))["rnn"]
    assert other_seed[0].config.train.learning_rate != rnn[0].config.train.learning_rate


def test_draws_fill_their_ranges(text_file: Path) -> None:
    given = planned(text_file, ["rnn"], *OWN, search=100)
    rates, dropouts = zip(
        *(
            (run.config.train.learning_rate, run.config.model.dropout)
            for run in runs_of(given)["rnn"]
        ),
        strict=True,
    )
    octaves = [math.log2(rate / 0.01) for rate in rates]
    assert fmean(octaves) == pytest.approx(0, abs=0.6)
    assert min(octaves) < -2.5
    assert max(octaves) > 2.5
    assert 35 <= sum(dropout == 0 for dropout in dropouts) <= 65
    drawn = [dropout for dropout in dropouts if dropout]
    assert min(drawn) < 0.05 < 0.2 < max(drawn)


def test_ranges_end_at_the_limits_of_a_configuration(text_file: Path) -> None:
    changes = ("train.learning_rate=4.0", "model.dropout=0.6")
    given = planned(text_file, ["rnn"], *changes, search=50)
    ranges = {"learning_rate": [0.5, 10.0], "dropout": [0.0, 0.95]}
    assert random_search.ranges(given, given.entries[0]) == ranges
    assert max(run.config.train.learning_rate for run in runs_of(given)["rnn"]) <= 10


def test_no_dropout_is_tried_where_seconds_are_equal(text_file: Path) -> None:
    given = planned(text_file, ["rnn"], *OWN, "model.dropout=0.1", match="time", search=10)
    assert {run.config.model.dropout for run in runs_of(given)["rnn"]} == {0.1}
    assert random_search.ranges(given, given.entries[0])["dropout"] == [0.1, 0.1]
    assert "without_dropout" not in random_search.terms(given)
    assert random_search.terms(replace(given, match="parameters"))["without_dropout"] == 0.5


def test_best_values_are_taken_and_an_end_of_the_range_is_noted(text_file: Path) -> None:
    given = planned(text_file, ["rnn", "lstm", "gru"], *OWN, search=3)
    tried = [
        *(
            Trial("rnn", 0.0013, 0.0, 2.0),
            Trial("rnn", 0.01, 0.2, 2.1),
            Trial("rnn", 0.05, 0.0, None),
        ),
        *(
            Trial("lstm", 0.0013, 0.0, 2.0),
            Trial("lstm", 0.01, 0.24, 1.9),
            Trial("lstm", 0.05, 0, 2),
        ),
        *(Trial("gru", rate, 0.1, None) for rate in (0.0013, 0.01, 0.05)),
    ]
    found = {
        entry.label: (entry.config.train.learning_rate, entry.config.model.dropout)
        for entry in trials.tuned(given, tried).entries
    }
    assert found == {"rnn": (0.0013, 0.0), "lstm": (0.01, 0.24), "gru": (0.01, 0.0)}
    assert random_search.at_the_edge(given, tried) == [
        "rnn: the best learning rate, 0.0013, is near the lower end of its range, 0.00125",
        "lstm: the best dropout, 0.24, is near the upper end of its range, 0.25",
    ]
    assert random_search.next_runs(given, tried, Path("tune"), {}) == []


def test_a_trial_that_diverges_or_is_worse_counts_as_a_uniform_guess(text_file: Path) -> None:
    given = planned(text_file, ["rnn", "gru"], *OWN, search=3)
    bits = {"rnn": (None, 9.0, 3.0), "gru": (None, None, None)}
    tried = [Trial(label, 0.01, 0.0, one) for label, own in bits.items() for one in own]
    found = search_result(given, tried, 5.0)
    assert found is not None
    rnn, gru = found["rows"]
    assert (rnn["diverged"], gru["diverged"]) == (1, 3)
    assert [one["mean"] for one in rnn["expected"]] == pytest.approx([13 / 3, 11 / 3, 3])
    assert [one["mean"] for one in gru["expected"]] == [5.0] * 3
    assert [one["bits_per_character"] for one in rnn["trials"]] == [None, 9.0, 3.0]
    assert gru["best"] == {"learning_rate": 0.01, "dropout": 0.0}  # its own
    assert search_result(planned(text_file, ["rnn"]), [], 5.0) is None


def test_sentences_name_the_budgets_at_which_the_order_changes(text_file: Path) -> None:
    expected = {"rnn": [2.5, 2.4, 2.3], "gru": [2.6, 2.35, 2.1], "lstm": [2.7, 2.6, 2.2]}
    assert [(one["from"], one["to"], one["cells"]) for one in orders(expected)] == [
        (1, 1, ["rnn", "gru", "lstm"]),
        (2, 2, ["gru", "rnn", "lstm"]),
        (3, 3, ["gru", "lstm", "rnn"]),
    ]
    best, order = search_sentences(expected)
    assert "gru 2.100, lstm 2.200, rnn 2.300" in best
    assert "with 1, rnn, gru, lstm; with 2, gru, rnn, lstm; with 3, gru, lstm, rnn." in order
    assert "is the same for 1 to 2 trials" in search_sentences({"a": [2, 1], "b": [3, 2]})[1]
    given = planned(text_file, ["rnn", "gru"], *OWN, search=4)
    bits = {"rnn": (2.4, 2.3, 2.5, 2.6), "gru": (2.2, 3.0, 2.3, 2.5)}
    tried = [Trial(label, 0.01, 0.0, one) for label, own in bits.items() for one in own]
    found = search_result(given, tried, 5.0)
    assert found is not None
    (difference,) = found["differences"]
    assert difference["cells"] == ["gru", "rnn"]
    assert difference["trials_needed"] == 2  # of two, 2.283 is expected
    assert found["sentences"][-1].startswith(
        "gru needs 2 trials to be expected at or below rnn's best of 4; gru minus rnn, best of 4: "
        "-0.100 bits (nominally 95 % over the draw of the points: "
    )


def test_sentences_on_one_cell_name_no_order_and_two_trials_no_interval(text_file: Path) -> None:
    assert search_sentences({"gru": [2.5, 2.4]}) == [
        "Best of 2 random trials of each cell, one seed: gru 2.400 bits per character."
    ]
    given = planned(text_file, ["rnn", "gru"], *OWN, search=2)
    bits = {"rnn": (2.4, 2.3), "gru": (2.2, 3.0)}
    tried = [Trial(label, 0.01, 0.0, one) for label, own in bits.items() for one in own]
    found = search_result(given, tried, 5.0)
    assert found is not None
    (difference,) = found["differences"]
    assert difference["shown"] is False
    assert difference["expected"][-1] == {
        **{"trials": 2, "mean": pytest.approx(-0.1), "low": None, "high": None}
    }
    assert difference["sentence"].endswith("-0.100 bits (too few trials for an interval).")


# ---- carried out --------------------------------------------------------------------------------


def test_result_has_every_trial_and_runs_have_the_best_values(
    searched: tuple[Path, Path, Any],
) -> None:
    _, folder, result = searched
    search = result["search"]
    assert result["tuned"] is True
    assert result["tuning"] == []
    assert [row["cell"] for row in search["rows"]] == SEARCHED
    assert search["uniform"] == result["baselines"]["uniform"]
    for row, compared in zip(search["rows"], result["rows"], strict=True):
        bits = [one["bits_per_character"] for one in row["trials"]]
        assert len(bits) == search["trials"] == 4
        best = min(row["trials"], key=lambda one: one["bits_per_character"])
        values = {key: best[key] for key in ("learning_rate", "dropout")}
        assert row["best"] == values == {key: compared[key] for key in values}
        capped = [min(one, search["uniform"]) for one in bits]
        for n, one in enumerate(row["expected"], start=1):
            assert one["trials"] == n
            mean = fmean(map(min, itertools.combinations(capped, n)))
            assert one["mean"] == pytest.approx(mean)
            assert one["low"] <= one["mean"] <= one["high"]
    plan = json.loads((folder / "plan.json").read_text())["search"]
    assert plan["trials"] == len(plan["points"]) == 4
    assert plan["ranges"] == {row["cell"]: row["ranges"] for row in search["rows"]}
    assert "others: --tune" not in " ".join(result["notes"])


def test_plan_states_the_statistics_of_the_search_and_an_older_plan_goes_on(
    searched: tuple[Path, Path, Any], tmp_path: Path
) -> None:
    text, folder, whole = searched
    plan = json.loads((folder / "plan.json").read_text())
    said = " ".join(plan["statistics"])
    for part in ("counts as a uniform guess", "nominally 95 %", "jackknife", "all choices of n"):
        assert part in said
    older = shutil.copytree(folder, tmp_path / "older")
    plan["statistics"] = METHODS
    for name in ("plan.json", ".plan.json"):
        (older / name).write_bytes(json_bytes(plan))
    result, _ = carried_out(planned(text, SEARCHED, seeds=1, search=4), older)
    assert result["search"] == whole["search"]
    assert json.loads((older / "plan.json").read_text()) == plan


def test_page_draws_the_expected_best_and_lists_every_trial(
    searched: tuple[Path, Path, Any],
) -> None:
    _, folder, result = searched
    report.write(result, folder)
    text = html.unescape((folder / report.PAGE).read_text(encoding="utf-8"))
    assert "The random search" in text
    assert "nominally of 95 %: in simulations they held" in text
    timed = html.unescape(report.html({**result, "match": "time", "time_budget": 1.0}, []))
    assert "log-uniform over its range and the cell’s own dropout." in timed
    assert "no dropout" not in timed
    assert "Every cell searched for its learning rate and dropout" in text
    assert all(sentence in text for sentence in result["search"]["sentences"])
    for row in result["search"]["rows"]:
        for one in row["trials"]:
            assert f"<td>{one['bits_per_character']:.4f}</td>" in text
    figure = re.search(r'<figure id="best-of-trials">.*?</figure>', text, re.DOTALL)
    assert figure is not None
    for label in ("random trials, n", "bits per character, best of n", *SEARCHED):
        assert label in figure[0]
    assert (folder / "figures" / "best-of-trials.png").read_bytes().startswith(b"\x89PNG")


def test_stopped_search_goes_on_with_the_trials_that_are_finished(
    searched: tuple[Path, Path, Any], tmp_path: Path
) -> None:
    text, _, whole = searched
    given = planned(text, SEARCHED, seeds=1, search=4)
    comparison, begun = Comparison(given, tmp_path / "c"), 0
    for event in comparison.run("charlm compare"):
        begun += isinstance(event, Begun)
        if begun == 4:
            comparison.stop()
    assert begun == 4
    assert not any((tmp_path / "c" / "runs").iterdir())
    result, events = carried_out(given, tmp_path / "c")
    reused = [event.reused for event in events if isinstance(event, Begun)]
    assert reused[:8] == [True] * 3 + [False] * 5
    assert result["search"] == whole["search"]
    assert result["plan"]["sha256"] == whole["plan"]["sha256"]


@pytest.mark.parametrize(
    ("search", "said"),
    [(5, r"search\.trials was 4, now 5"), (0, "its plan says search was {.*}, now null")],
)
def test_another_search_in_the_same_folder_is_refused(
    searched: tuple[Path, Path, Any], search: int, said: str
) -> None:
    text, folder, _ = searched
    before = (folder / "plan.json").read_bytes()
    with pytest.raises(UsageError, match=said):
        carried_out(planned(text, SEARCHED, seeds=1, search=search), folder)
    assert (folder / "plan.json").read_bytes() == before


@pytest.mark.parametrize("search", [0, 1, 101, -3, 2.5, "8"])
def test_impossible_numbers_of_trials_are_refused(search: Any) -> None:
    with pytest.raises(UsageError, match=f"{search} is no number of trials") as error:
        CompareRequest(["rnn"], search=search)
    assert "give 2 to 100" in error.value.advice


def test_two_searches_at_once_are_refused_and_one_is_repeated_by_the_command() -> None:
    with pytest.raises(UsageError, match="both search for every cell's values"):
        CompareRequest(["rnn"], tune=True, search=8)
    assert CompareRequest(["rnn"], search=8).command().endswith("--search 8")
    assert "--search" not in CompareRequest(["rnn"]).command()
