"""The lecture's claims where the runs cannot show them, and sentences on results made up here."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import planned

from charlm.comparison import analysis, result
from charlm.comparison.analysis import Gradients, RunAnalysis
from charlm.comparison.baselines import Baselines
from charlm.comparison.claims import Findings, judge
from charlm.comparison.execution import Comparison, Stage
from charlm.comparison.extended_runs import LongerRun
from charlm.comparison.plan import Plan, planned_runs
from charlm.comparison.step_cost import StepCost
from charlm.comparison.table import differences, fastest, verdict
from charlm.models.recurrent import CharModel

MEMORY = 1_000_000
REACHES = {"h": [0.5**lag for lag in range(65)]}
ENDS = {"h": [0.5**lag if lag < 9 else 0.0 for lag in range(65)]}


def analysed(plan: Plan, bits: float = 2.0, gradient: Gradients = REACHES) -> list[RunAnalysis]:
    """Make up a finished run of each cell and seed."""
    speeds = {entry.label: 0.01 for entry in plan.entries}
    best = {"best": {"bits_per_character": bits}}
    return [
        RunAnalysis(run, best, [], 1.0, "", gradient, gradient, [], [])
        for run in planned_runs(plan, Path("runs"), speeds)
    ]


def costs(plan: Plan, *seconds: float, memory: int | None = MEMORY) -> dict[str, StepCost]:
    """Make up the cost of a step of each cell at the same width."""
    return {e.label: StepCost(e.config, seconds, memory) for e in plan.same_width}


def row(cell: str, *values: float) -> dict[str, Any]:
    mean = sum(values) / len(values)
    return {"cell": cell, "bits_per_character": {"mean": mean, "values": list(values)}}


def judged(
    plan: Plan, analyses: Sequence[RunAnalysis], spent: Mapping[str, StepCost]
) -> dict[str, tuple[bool | None, str]]:
    """Judge the claims about made-up runs: holds and evidence of each."""
    table = [row(entry.label, *(2.0 for _ in plan.seeds)) for entry in plan.entries]
    found = judge(Findings(plan, table, analyses, spent))
    return {claim["claim"]: (claim["holds"], claim["evidence"]) for claim in found}


def test_cells_of_unlike_depth_are_not_compared_at_the_same_width(text_file: Path) -> None:
    plan = planned(text_file, ["gru", "lstm:num_layers=2"], match="hidden")
    found = judged(plan, analysed(plan), costs(plan, 0.02, 0.02))
    unlike = (None, "they differ in num_layers")
    assert found["a GRU is at most 2 % worse than an LSTM at the same width"] == unlike
    assert found["a GRU trains faster than an LSTM of the same width"] == unlike
    assert found["a GRU needs less memory than an LSTM of the same width"] == unlike


def test_memory_that_is_not_reported_shows_nothing(text_file: Path) -> None:
    plan = planned(text_file, ["gru", "lstm"], match="hidden")
    claim = "a GRU needs less memory than an LSTM of the same width"
    unknown = costs(plan, 0.02, 0.02, memory=None)
    known = costs(plan, 0.02, 0.02)
    assert judged(plan, analysed(plan), unknown)[claim] == (
        None,
        "this system does not report how much memory training takes",
    )
    half = {**known, "gru": replace(known["gru"], memory_bytes=MEMORY // 2)}
    holds, evidence = judged(plan, analysed(plan), half)[claim]
    assert holds is True
    assert evidence.endswith("(-50 %)")


@pytest.mark.parametrize(
    ("gradient", "evidence"),
    [
        ({}, "the gradient could not be followed 64 steps back"),
        (ENDS, "no gradient reaches as far: the records end sooner"),
        (REACHES, "lstm 9.5e-07, rnn 9.5e-07: 1 times as large, from too few seeds to show it"),
    ],
)
def test_gradient_that_ends_sooner_is_not_compared(
    text_file: Path, gradient: Gradients, evidence: str
) -> None:
    plan = planned(text_file, ["rnn", "lstm"])
    found = judged(plan, analysed(plan, gradient=gradient), costs(plan, 0.02, 0.02))
    for when in ("trained", "freshly initialised"):
        claim = "the gradient that reaches back 20 steps is larger in an LSTM than in an RNN, both "
        holds, said = found[claim + when]
        assert holds is None
        assert said.startswith(evidence)


def test_gradient_that_is_not_finite_is_left_out(text_file: Path) -> None:
    plan = planned(text_file, ["rnn"])
    model = CharModel(plan.entries[0].config.model, len(plan.corpus.vocabulary))
    model.reset_parameters(0)
    model.requires_grad_(False)
    found = analysis._gradients(model, plan.corpus)
    assert set(found) == {"h"}
    assert len(found["h"]) == 65
    model.head.weight[0, 0] = torch.inf
    assert analysis._gradients(model, plan.corpus) == {}


# ---- sentences ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ngram", "winners"),
    [
        (2.5, "reaches 2.500: gru and rnn predict better."),
        (2.2, "reaches 2.200: gru predicts better."),
        (2.0, "reaches 2.000: no network is shown to beat it here."),
    ],
)
def test_networks_that_beat_counting_are_named(ngram: float, winners: str) -> None:
    table = [row("gru", 2.1, 2.11, 2.12), row("rnn", 2.2, 2.3, 2.25)]
    known = Baselines({"validation": {"ngram": ngram}}, 8, 1234)
    sentences = verdict(table, differences(table), known, [LongerRun("gru", 2, 9, 1.9, True)], {})
    assert sentences[-2].startswith("Counting alone, an 8-gram model with 1,234 counts, ")
    assert sentences[-2].endswith(winners)
    assert sentences[-1].startswith("With 2 times as many steps gru beats it")


def test_fastest_cell_has_an_interval_from_three_rounds_on(text_file: Path) -> None:
    plan = planned(text_file, ["gru", "lstm"], match="hidden")
    for rounds, interval in ((2, ""), (3, " (95 %: 1.50 to 1.50)")):
        gru, lstm = costs(plan, *[0.02] * rounds), costs(plan, *[0.03] * rounds)
        spent = {"gru": gru["gru"], "lstm": lstm["lstm"]}
        assert fastest(spent) == [
            f"At the same width, 64, gru trains fastest: 1.50 times as fast as lstm{interval}."
        ]


def test_best_cell_trains_no_longer_where_it_beats_counting(
    text_file: Path, tmp_path: Path
) -> None:
    plan = planned(text_file, ["rnn"], seeds=1)
    comparison = Comparison(plan, tmp_path / "c")

    def events(ngram: float, outcomes: list[LongerRun]) -> Any:
        known = Baselines({"validation": {"ngram": ngram}}, 8, 1)
        return comparison._beat(known, plan, analysed(plan), {"rnn": 0.01}, outcomes)

    outcomes: list[LongerRun] = []
    assert list(events(2.001, outcomes)) == []
    assert outcomes == []
    assert next(events(2.0, outcomes)) == Stage(
        "no network beats counting, 2.000 bits: rnn trains 2 times as long"
    )
    assert not (tmp_path / "c" / "longer").exists()


def test_notes_name_memory_that_is_unknown_and_text_that_is_left_out(
    text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(text_file, ["rnn"], seeds=5)
    memory = "this system does not report the peak memory of a single run"
    part = "the n-gram model and xz read the last 50 symbols of train"
    assert not {memory, part} & set(result._notes(plan, [{"peak_memory_bytes": 7}]))
    monkeypatch.setattr(result, "MOST_SYMBOLS", 50)
    rows: list[dict[str, Any]] = [{"peak_memory_bytes": size} for size in (7, None)]
    assert result._notes(plan, rows)[-2:] == [memory, part]


def test_processor_without_a_name_is_named_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_text
    content = "processor\t: 0\nmodel name\t: Made: up CPU\n"

    def reading(path: Path, *given: Any, **options: Any) -> str:
        return content if str(path) == "/proc/cpuinfo" else read(path, *given, **options)

    monkeypatch.setattr(Path, "read_text", reading)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert result._processor() == "Made: up CPU"
    content = "processor\t: 0\nhart\t: 2\n"
    assert result._processor() == "riscv64"
    monkeypatch.setattr(platform, "processor", lambda: "a processor")
    assert result._processor() == "a processor"
