"""Results of commands on the terminal: the lines that are printed, and those that are left out."""

import contextlib
import io
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from charlm.api.documents import DocumentScores, PairedScores, ScoredDocument
from charlm.comparison.over_texts import over_texts
from charlm.evaluation.tally import Score
from charlm.inspection.copies import LONG, SEED, Copied, Span
from charlm.reports.view import Section, Table, View
from charlm.terminal import comparison, console, documents, run, sample, texts
from charlm.terminal import view as views
from charlm.text.files.walking import TextFiles
from charlm.text.vocabulary import Vocabulary
from charlm.training.events import Summary

Printed = Callable[[], list[str]]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    """Return a function that returns the lines on stdout and then those on stderr since its last
    call."""

    def lines() -> list[str]:
        found = capsys.readouterr()
        return [*found.out.splitlines(), *found.err.splitlines()]

    return lines


# ---- messages -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "more"), [(8, []), (9, ["  and 1 more"])])
def test_an_error_lists_eight_details_and_counts_the_others(
    count: int, more: list[str], printed: Printed
) -> None:
    console.error("it fails", "mend it", [f"detail {number}" for number in range(count)])
    shown = [f"  detail {number}" for number in range(8)]
    assert printed() == ["error: it fails", *shown, *more, "help: mend it"]


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("kind", "written"), [(Screen, "fox (new)"), (io.StringIO, "fox")])
def test_a_remark_on_a_text_is_for_a_terminal_only(kind: type[io.StringIO], written: str) -> None:
    with contextlib.redirect_stdout(kind()) as out:
        writer = console.Writer()
        writer.write("fox")
        writer.write_mark(" (new)")
    assert out.getvalue() == written


# ---- runs ---------------------------------------------------------------------------------------

ON_GPU = {"device": "cuda", "precision": "bfloat16", "threads": 4, "backend": "torch"}


def test_the_estimate_of_a_run_on_a_gpu_names_its_precision(printed: Printed) -> None:
    sizes = {"parameters": 1200, "characters_per_second": 5e6, "peak_memory_bytes": 3e8}
    run.estimated({**ON_GPU, **sizes, "passes": 1.5, "seconds": 65.0}, patience=0)
    assert printed() == [
        "1,200 parameters; 5,000,000 characters/s on cuda in bfloat16; 300 MB",
        "about 1:05 of training, 1.5 passes over the train split",
    ]


def summary(stopped_by: str, *, is_evaluated: bool) -> Summary:
    return {
        "device": "cpu",
        "precision": "float32",
        "threads": 1,
        "backend": "torch",
        "run": "runs/a",
        "cell": "gru",
        "parameters": 9,
        "recurrent_parameters": 9,
        "vocabulary_size": 9,
        "steps": 12,
        "characters": 900,
        "seconds": 30.0,
        "characters_per_second": 30.0,
        "peak_memory_bytes": 0,
        "best": {"step": 9, "loss": 0.6931, "bits_per_character": 1.0} if is_evaluated else None,
        "stopped_by": stopped_by,
    }


def test_a_run_that_a_signal_ends_before_an_evaluation_goes_on_with_resume(
    printed: Printed,
) -> None:
    run.conclude(summary("signal", is_evaluated=False), "the ")
    assert printed() == [
        "stopped on request: step 12, 0:30 of training, 30 characters/s",
        "next: charlm train --resume --run runs/a",
    ]
    run.conclude(summary("steps", is_evaluated=True), "the ")
    assert printed()[1:] == [
        "best: 0.6931 nats per symbol = 1.0000 bits per character, at step 9",
        "next: charlm sample runs/a --prompt 'the '",
    ]


# ---- samples ------------------------------------------------------------------------------------


def test_copies_are_listed_with_their_places_the_three_longest_that_do_not_overlap(
    printed: Printed,
) -> None:
    text = "abcdefghij" * 20
    spans = [
        Span(0, 60, 1000),
        Span(10, 55, 7),
        Span(70, 40, 5),
        Span(120, 30, 6),
        Span(160, 20, 8),
    ]
    sample.copies([Copied("text 1", "abc", []), Copied("text 2", text, spans)])
    assert (SEED, LONG) == (12, 50)
    assert printed() == [
        "text 1 shares no 12 characters with train",
        "text 2: 77.5 % in spans of 12 or more characters that train holds, 32.5 % in spans of 50 "
        "or more",
        f"  60 at 1,000 of train: {text[:60]}",
        f"  40 at 5 of train: {text[:40]}",
        f"  30 at 6 of train: {text[:30]}",
    ]


# ---- scores of documents ------------------------------------------------------------------------


def scores(run: str, *bits: float, worst: str = "d9.txt") -> DocumentScores:
    """Return the scores of a document of a character for each number of bits."""
    names = [*(f"d{number}.txt" for number in range(len(bits) - 1)), worst]
    found = [
        ScoredDocument(name, Score(0.6931471805599453 * one, 1, 1, 1), {})
        for name, one in zip(names, bits, strict=True)
    ]
    return DocumentScores(run, found, 0, adapted=False, paces={}, files=TextFiles())


@pytest.mark.parametrize(
    ("worst", "advice"),
    [
        ("-", []),
        (
            "d9.txt",
            ["next: charlm score runs/a d9.txt --html page.html shows where it is surprised"],
        ),
    ],
)
def test_no_page_of_a_stream_is_suggested(worst: str, advice: list[str], printed: Printed) -> None:
    documents.suggest(scores("a", 1.0, 2.0, worst=worst), ["runs/a"], {})
    assert printed() == advice


@pytest.mark.parametrize(
    ("others", "more"),
    [
        ([2.0, 2.1, 1.9, 2.0], ": not shown which is better"),
        ([3.0, 3.1, 2.9, 3.0], ""),
        ([1.0, 1.1, 0.9, 1.0], ""),
    ],
)
def test_an_interval_that_holds_zero_shows_no_better_run(
    others: list[float], more: str, printed: Printed
) -> None:
    pair = PairedScores(scores("a", 2.1, 1.9, 2.1, 1.9), scores("b", *others))
    vocabulary = Vocabulary("char", "none", (97,), has_unknown=False)
    documents.compared(pair, [vocabulary, vocabulary])
    (line,) = [one.strip() for one in printed() if "interval of the difference" in one]
    mean = pair.mean
    assert line == f"95 % interval of the difference {mean.low:+.4f} to {mean.high:+.4f}{more}"
    assert (mean.low < 0 < mean.high) == bool(more)


# ---- comparisons --------------------------------------------------------------------------------


def result(**bits: float) -> dict[str, Any]:
    """Return the parts of a comparison's result that are printed. bits: of each cell."""
    rows = [
        {
            "cell": cell,
            **{"hidden_size": 64, "parameters": 9876, "num_layers": 1},
            "bits_per_character": {"mean": value, "std": None, "values": [value]},
            "seconds_to_weakest": {"mean": None},
            "peak_memory_bytes": None,
            **{"characters_per_second": 30_000.0, "sample_characters_per_second": 1_500.0},
        }
        for cell, value in bits.items()
    ]
    differences = [
        {
            "cells": [a, b],
            **{"mean": bits[a] - bits[b], "low": None, "high": None, "shown": False},
            "two_way": {"sentence": f"{a} against {b}"},
        }
        for a, b in itertools.combinations(bits, 2)
    ]
    plan = {"path": "plan.json", "written": "today", "amends": [], "sha256": "ab12"}
    return {
        **{"rows": rows, "differences": differences, "plan": plan, "report": "out/report.html"},
        **{"verdict": ["the verdict"], "seeds": [1], "task": None, "search": None},
        **{"test": {"sentence": "no test split"}, "curves": {"sentences": []}},
        **{"baselines": {"uniform": 5.0, "unigram": 4.0, "xz": 3.0, "ngram": 2.5}},
        **{"ngram_order": 5, "claims": [], "notes": []},
    }


@pytest.mark.parametrize(
    ("bits", "pairs"),
    [
        ({"rnn": 2.0, "gru": 1.8, "lstm": 1.9}, ["rnn gru", "rnn lstm", "gru lstm"]),
        (
            {"rnn": 2.0, "gru": 1.8, "lstm": 1.9, "mingru": 2.1},
            ["rnn gru", "gru lstm", "gru mingru"],
        ),
    ],
)
def test_of_many_cells_only_the_differences_to_the_best_are_printed(
    bits: dict[str, float], pairs: list[str], printed: Printed
) -> None:
    comparison.conclude(result(**bits))
    found = [line for line in printed() if " against " in line]
    assert found == [pair.replace(" ", " against ") for pair in pairs]


@pytest.mark.parametrize("width", [100, 50])
def test_a_table_that_is_too_wide_is_printed_in_two_parts(
    width: int, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = console.PlainConsole(soft_wrap=True, theme=console.STYLES, width=width)
    for module in (console, comparison):
        monkeypatch.setattr(module, "out", screen)
    comparison.conclude(result(rnn=2.0, gru=1.8))
    lines = printed()
    tables = [at for at, line in enumerate(lines) if line.startswith("cell ")]
    found = [[line.split() for line in lines[at : at + 4]] for at in tables]
    scores = [
        ["cell", "width", "params", "bits/char"],
        ["rnn", "64", "9,876", "2.000"],
        ["gru", "64", "9,876", "1.800"],
    ]
    costs = [
        ["to", "weakest", "train/s", "write/s", "peak"],
        ["-", "30k", "1.5k", "-"],
        ["-", "30k", "1.5k", "-"],
    ]
    if width == 100:
        (only,) = found
        assert only[:3] == [one + two for one, two in zip(scores, costs, strict=True)]
    else:
        first, second = found
        assert first == [*scores, []]
        names = (["cell"], ["rnn"], ["gru"])
        assert second[:3] == [one + two for one, two in zip(names, costs, strict=True)]


LONG_LABEL = "gru:model.dropout=0.5"


@pytest.mark.parametrize("cell", ["gru", LONG_LABEL])
def test_long_names_of_cells_are_numbered_and_explained(cell: str, printed: Printed) -> None:
    both = {"rnn": 2.0, cell: 1.8}
    of_texts = {name: result(**both) for name in ("first", "second")}
    over = over_texts(of_texts)
    whole = {**result(**both), "over_texts": over, "texts": []}
    whole["texts"] = [{"name": name, **one} for name, one in of_texts.items()]
    texts.conclude(whole)
    lines = printed()
    name = "gru (2)" if cell == LONG_LABEL else "gru"
    (heading,) = [line.split("  ") for line in lines if line.endswith("n-gram")]
    assert name in [one.strip() for one in heading]
    assert (f"gru (2) is {LONG_LABEL}" in lines) == (cell == LONG_LABEL)
    (every,) = [line for line in lines if line.startswith("all 2 texts")]
    assert every.split() == ["all", "2", "texts", "+0.200"]  # of two texts there is no interval
    last = [line.split() for line in lines if line.startswith("first ")][-1]
    assert last == ["first", "+0.200"]


def test_one_cell_on_several_texts_has_no_table_of_differences(printed: Printed) -> None:
    of_texts = {name: result(rnn=2.0) for name in ("first", "second")}
    over = over_texts(of_texts)
    named = [{"name": name, **one} for name, one in of_texts.items()]
    texts.conclude({**result(rnn=2.0), "over_texts": over, "texts": named})
    lines = printed()
    assert "the verdict" in lines
    assert not [line for line in lines if "difference" in line]
    assert [line.split() for line in lines if line.startswith("mean")] == [["mean", "2.000"]]


# ---- views --------------------------------------------------------------------------------------


def test_a_long_table_without_a_title_ends_with_the_number_of_rows_left_out(
    printed: Printed,
) -> None:
    rows = [(f"row {number}", str(number)) for number in range(views.LONGEST + 2)]
    shown = View("v", "the title", ["a sentence"], [Section("", [Table(("a", "b"), rows)])], {})
    views.show(shown)
    lines = printed()
    assert lines[:3] == ["the title", "a sentence", ""]
    assert lines[3].split() == ["a", "b"]
    assert lines[4].split() == ["row", "0", "0"]
    assert lines[3 + views.LONGEST].split() == ["row", "39", "39"]
    assert lines[4 + views.LONGEST :] == ["", "and 2 more rows, on the page"]
    titled = Section("the section", [Table(("a", "b"), rows[:1], "its table")])
    views.show(View("v", "the title", [], [titled], {}))
    assert printed()[2] == "the section: its table"
