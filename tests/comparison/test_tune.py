"""The search of `compare --tune`: alike for every cell, beyond the ends of its lists."""

import gc
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import planned

from charlm.comparison import runs, trials, tune
from charlm.comparison.plan import Plan, PlannedRun
from charlm.comparison.runs import Diverged
from charlm.comparison.trials import Trial
from charlm.training.learner import Learner

OWN = ("train.learning_rate=0.01", "model.dropout=0.0")
SECONDS = {"rnn": 1.0, "gru": 1.0}


def searched(given: Plan, bits: Callable[[str, float, float], float | None]) -> list[Trial]:
    """Carry the search out with these bits in the place of training."""
    tried: list[Trial] = []
    while found := tune.next_runs(given, tried, Path("tune"), SECONDS):
        assert len({run.path for run in found}) == len(found)
        for run in found:
            rate, dropout = run.config.train.learning_rate, run.config.model.dropout
            label = run.entry.label
            tried.append(Trial(label, rate, dropout, bits(label, rate, dropout)))
    assert len({(one.label, one.learning_rate, one.dropout) for one in tried}) == len(tried)
    return tried


def test_search_begins_alike_for_every_cell_on_a_seed_of_its_own(text_file: Path) -> None:
    given = planned(text_file, ["rnn", "gru"], "train.learning_rate=0.01", tune=True)
    first = tune.next_runs(given, [], Path("tune"), SECONDS)
    by_cell = {
        label: [
            (run.config.train.learning_rate, run.steps, run.config.train.seed)
            for run in first
            if run.entry.label == label
        ]
        for label in ("rnn", "gru")
    }
    assert by_cell["rnn"] == by_cell["gru"]
    assert [rate for rate, _, _ in by_cell["rnn"]] == pytest.approx([0.0025, 0.005, 0.01, 0.02])
    steps = given.entries[0].config.train.steps
    assert {(n, seed) for _, n, seed in by_cell["rnn"]} == {(steps, 2**32 - 1)}
    assert 2**32 - 1 not in given.seeds
    more = planned(text_file, ["rnn", "gru"], "train.learning_rate=0.01", tune=True, seeds=5)
    again = tune.next_runs(more, [], Path("tune"), SECONDS)
    assert [run.config for run in again] == [run.config for run in first]


def test_search_takes_the_best_rate_and_dropout_of_each(text_file: Path) -> None:
    given = planned(text_file, ["rnn", "gru"], *OWN, tune=True)
    best = {"rnn": (0.01, 0.1), "gru": (0.005, 0.0)}

    def bits(label: str, rate: float, dropout: float) -> float:
        return abs(math.log(rate / best[label][0])) + abs(dropout - best[label][1])

    tried = searched(given, bits)
    found = {
        entry.label: (entry.config.train.learning_rate, entry.config.model.dropout)
        for entry in trials.tuned(given, tried).entries
    }
    assert found == best
    assert tune.at_the_edge(given, tried) == []
    # Four rates without dropout, then two dropouts at the best of them.
    assert len(tried) == 2 * (4 + 2)


def test_search_goes_on_beyond_its_ends_and_says_where_it_stopped(text_file: Path) -> None:
    given = planned(text_file, ["rnn", "gru"], *OWN, tune=True)

    def bits(label: str, rate: float, dropout: float) -> float | None:
        if label == "rnn":  # the higher the better, until it diverges
            return None if rate > 0.03 else 1 / rate - dropout
        return rate - dropout

    tried = searched(given, bits)
    found = {
        entry.label: (entry.config.train.learning_rate, entry.config.model.dropout)
        for entry in trials.tuned(given, tried).entries
    }
    assert found["rnn"] == (0.02, pytest.approx(0.7))
    assert found["gru"] == (pytest.approx(0.0025 / 8), pytest.approx(0.7))
    assert tune.at_the_edge(given, tried) == [
        "rnn: the best dropout, 0.7, is the highest tried",
        "gru: the best learning rate, 0.0003125, is the lowest tried",
        "gru: the best dropout, 0.7, is the highest tried",
    ]


def test_search_leaves_a_cell_as_it_was_when_all_diverge(text_file: Path) -> None:
    given = planned(text_file, ["gru"], "train.learning_rate=0.01", tune=True)
    tried = searched(given, lambda *_: None)
    assert trials.tuned(given, tried).entries == given.entries


def test_search_goes_on_after_a_rate_that_diverges(text_file: Path, tmp_path: Path) -> None:
    wild = "rnn:nonlinearity=relu,train.learning_rate=0.01,train.clip_norm=0,train.warmup_steps=0"
    given = planned(text_file, [wild], "train.steps=40", seeds=1, tune=True)
    planned_runs = tune.next_runs(given, [], tmp_path, {wild: 0.01})
    hot = [
        PlannedRun(
            planned_run.entry,
            planned_run.config.model_copy(update={"train": train}),
            planned_run.path,
            0.01,
        )
        for planned_run in planned_runs[:1]
        for train in [
            planned_run.config.train.model_copy(update={"learning_rate": 10.0, "steps": 300})
        ]
    ]
    diverged = 0
    gc.collect()
    gc.disable()
    try:
        for event in runs.Runner(given.corpus).run([*hot, *planned_runs[1:3]], tolerant=True):
            diverged += isinstance(event, Diverged)
            # Nothing is left of the runs before: not in a cycle, and not in the error of one.
            learners = sum(type(one) is Learner for one in gc.get_objects())
            assert learners == (0 if isinstance(event, Diverged) else 1)
    finally:
        gc.enable()
    assert diverged == 1
    bits = [one.bits_per_character for one in trials.results([*hot, planned_runs[1]])]
    assert bits[0] is None
    assert bits[1] is not None
