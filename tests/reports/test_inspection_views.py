"""Views of a model: titles, sentences and tables by what was measured."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, words

import charlm as package
from charlm.common.errors import UsageError
from charlm.config.schema import Config
from charlm.inspection import context
from charlm.inspection.brackets import ByDistance
from charlm.inspection.context import ContextUse
from charlm.inspection.copies import SEED
from charlm.inspection.gradients import ByLag
from charlm.inspection.trace import Trace
from charlm.inspection.units import Read
from charlm.reports.inspection.context import context_view
from charlm.reports.inspection.gates import gates_view
from charlm.reports.inspection.gradients import gradients_view
from charlm.reports.inspection.overview import MOST_SAMPLES, overview
from charlm.reports.inspection.units import units_view
from charlm.reports.inspection.views import Inspection
from charlm.reports.view import Table, View, Written
from charlm.text.vocabulary import Vocabulary

# ---- the use of context -------------------------------------------------------------------------


def used(*bits: float) -> ContextUse:
    """Return the use of context by a model with this many bits after 0, 1, 2, 4, ... symbols."""
    lengths = [0, *(2**at for at in range(len(bits) - 1))]
    nats = np.log(2) * np.repeat(np.array(bits)[:, None], 3, axis=1)
    return ContextUse(lengths, nats, lengths, nats, nats)


def shown(use: ContextUse, closed: list[ByDistance] | None = None, pairs: int = 0) -> View:
    return context_view("mine", use, closed or [], pairs, "character", 1.0)


def test_a_model_that_gains_from_every_context_uses_the_longest_one() -> None:
    view = shown(used(4.0, 3.0, 2.0, 1.0))
    assert view.title == "mine uses 4 characters at least, the longest context measured"
    assert view.sentences[0] == (
        "The longest context that was measured, 4 characters, still helps."
    )
    assert view.sentences[2].startswith("Context gains 3.00 bits in all, 1.00 of them from further")
    view = shown(used(4.0, 2.0, 2.0, 2.0))
    assert view.title == ("mine uses the last character; older ones are worth less than 0.01 bits")
    assert view.sentences[0] == (
        "Given only the last character it is within 0.01 bits of the score with 4."
    )


def test_a_model_of_symbols_without_use_for_context_says_both() -> None:
    def shown_with(far: tuple[float, ...]) -> View:
        use = replace(used(2.0, 2.0, 2.0, 2.0), shuffled=used(*far).near)
        return context_view("mine", use, [], 0, "symbol", 1.0)

    view = shown_with((2.0, 2.0, 2.0, 2.0))
    assert view.title == "mine uses no context: all of it is worth less than 0.01 bits"
    assert view.sentences[:2] == [
        "Without any it is within 0.01 bits of the score with 4 symbols.",
        "A random order of the context costs less than 0.01 bits.",
    ]
    assert [one.title for one in view.pictures] == [
        "0 symbols of context are as good as 4",
        "Order does not matter",
    ]
    view = shown_with((3.0, 2.0, 2.0, 2.0))
    assert view.sentences[1].startswith("A random order of the context beyond the last symbol ")
    assert view.sentences[2].endswith("0.00 of them from further back than 2 symbols.")
    assert view.pictures[1].title == "Order matters for the last symbol"
    tables = [one for section in view.sections for one in section.blocks if isinstance(one, Table)]
    assert [table.heading[0] for table in tables] == ["symbols of context", "intact symbols"]


@pytest.mark.parametrize(("bits", "is_short"), [((4.0, 3.0), True), ((4.0, 3.0, 2.0), False)])
def test_two_lengths_of_context_are_too_few_for_a_sentence(
    bits: tuple[float, ...], is_short: bool
) -> None:
    said = shown(used(*bits)).sentences[2]
    assert (said == "The text is too short to say more.") == is_short


def test_closing_brackets_have_a_table_by_distance() -> None:
    view = shown(used(4.0, 3.0), [ByDistance(4, 7, 1234, 0.25, 0.5)], 1234)
    (table,) = view.sections[2].blocks
    assert isinstance(table, Table)
    assert table.rows == [("4 to 7", "1,234", "25 %", "50 %")]
    (sentence,) = shown(used(4.0, 3.0), [], 3).sections[2].blocks
    assert isinstance(sentence, str)
    assert sentence.startswith("The validation text closes 3 brackets or quotes: too few")


# ---- gradients ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shrinks", "title", "figure"),
    [
        (0.9, "more than 3 steps back", "after more than 3 steps"),
        (0.09, "2 steps back", "after 2 steps"),
        (0.001, "1 step back", "after 1 step"),
    ],
)
def test_a_gradient_that_never_falls_to_a_hundredth_reaches_beyond_all_lags(
    shrinks: float, title: str, figure: str
) -> None:
    lags = {"h": ByLag(np.repeat(shrinks ** np.arange(4.0)[:, None], 5, axis=1))}
    toy: dict[str, list[list[float]]] = {"powers": [], "gradient": []}
    values = [np.array([[2.0, 0.7, 0.1]])]
    view = gradients_view("mine", lags, lags, {"uniform": lags}, values, toy)
    assert view.title == f"mine: the gradient falls to a hundredth {title}"
    assert view.sentences[0] == f"Before training it did so {title}."
    assert view.pictures[0].title == f"A hundredth of the gradient is left {figure}"


# ---- units --------------------------------------------------------------------------------------


def test_a_text_without_varying_properties_has_no_units() -> None:
    read = Read(["a"], np.zeros((1, 1), np.float32), [(0, "h", 0)], 1)
    view = units_view("mine", [], read, {})
    assert view.title == "mine: no property of the text varies in it"
    assert view.sentences[0].startswith("0 of 0 properties have a unit")
    assert (view.sections, view.data) == ([], [])


# ---- overview -----------------------------------------------------------------------------------

LETTERS = Vocabulary("char", "none", (97, 10), has_unknown=False)
BYTES = Vocabulary("byte", "none", tuple(range(256)), has_unknown=False)


def row(kind: str, step: int, bits: float = 2.0, **more: Any) -> dict[str, Any]:
    whole = {"kind": kind, "step": step, "characters": 10 * step, "loss": 0.7 * bits}
    return {**whole, "bits_per_character": bits, **more}


def over(*metrics: dict[str, Any], vocabulary: Vocabulary = LETTERS) -> View:
    return overview("mine", Config(), vocabulary, {"w": torch.ones(2)}, metrics, [])


def blocks(view: View, title: str) -> Any:
    (section,) = [one for one in view.sections if one.title == title]
    return section.blocks


@pytest.mark.parametrize("count", [MOST_SAMPLES, MOST_SAMPLES + 5])
def test_of_many_samples_six_are_shown_from_the_first_to_the_last(count: int) -> None:
    view = over(*(row("sample", 10 * at, text=f"text {at}") for at in range(count)))
    found = blocks(view, "Samples during training")
    numbers = [int(one.text.removeprefix("text ")) for one in found if isinstance(one, Written)]
    assert numbers == [round(at * (count - 1) / 5) for at in range(6)]


@pytest.mark.parametrize(
    ("last", "sentence"),
    [
        (1.0, "It was still learning when it stopped: its last evaluation is its best."),
        (3.0, "Its best evaluation is step 1,000; at the end it was 1.050 nats worse."),
    ],
)
def test_the_end_is_compared_with_the_best_evaluation(last: float, sentence: str) -> None:
    view = over(row("eval", 500), row("eval", 1000, 1.5), row("eval", 1500, last))
    assert view.sentences == [sentence]


def test_a_vocabulary_of_bytes_is_not_listed() -> None:
    assert blocks(over(vocabulary=BYTES), "Vocabulary") == ["All 256 bytes."]
    assert blocks(over(), "Vocabulary") == ["2 characters: a newline"]


# ---- a run --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_bytes(tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    """Return the analyses of a run that reads the bytes of a text with brackets."""
    folder: Path = tmp_path_factory.mktemp("brackets")
    text = words(400).replace("quick", "(quick)")
    (folder / "words.txt").write_text(text, encoding="utf-8")
    changes = [*TINY, "data.unit=byte", "data.split=[0.7,0.3,0.0]"]
    package.train(data=folder / "words.txt", set=changes, run=folder / "run")
    return package.load(folder / "run").inspect()


def test_brackets_of_a_text_are_predicted_by_the_model_and_by_counting(
    of_bytes: Inspection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "PLACES", 8)
    monkeypatch.setattr(context, "LENGTHS", context.LENGTHS[:6])
    view = of_bytes.context()
    (pairs,) = view.data["closing"]
    own = of_bytes.held_out(1)
    text = "".join(own.characters())
    assert pairs["least"] <= len("quick") + 1 == pairs["most"]
    assert pairs["count"] == text.count("(quick)") > 5
    assert pairs["ngram"] == 1.0  # nothing else comes after "(quick"
    assert 0 <= pairs["model"] <= 1
    assert view.sections[0].title == "How much of the past"


def test_copies_of_a_model_of_bytes_are_counted_in_symbols(of_bytes: Inspection) -> None:
    view = of_bytes.memorization()
    assert "characters" not in " ".join([view.title, *view.sentences, view.about])
    assert f"spans of {SEED} or more symbols that train holds" in view.sentences[0]
    for block in (one for section in view.sections for one in section.blocks):
        assert not isinstance(block, Table) or block.heading[0] == "symbols"
        assert "characters" not in getattr(block, "about", "")


def test_a_model_of_bytes_has_no_units_that_follow_letters(of_bytes: Inspection) -> None:
    for analysis in (of_bytes.units, of_bytes.errors):
        with pytest.raises(UsageError, match="this model reads bytes, and a byte is no letter"):
            analysis()


# ---- gates --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reached", "adds_up"), [(9.5, True), (0.9, False)])
def test_states_are_named_by_how_far_they_reach_over_the_text(
    reached: float, adds_up: bool
) -> None:
    states = {"c": np.array([[0.1], [-reached]]), "h": np.array([[0.25], [-0.5]])}
    trace = Trace(["a", "b"], [states])
    (sentence,) = gates_view("mine", trace, [], None).sentences
    added = "; it adds up over many characters" if adds_up else ""
    assert sentence == (
        f"Layer 0: over this text the cell state c reaches {reached}{added}. The hidden state h, "
        "which the layers above read, reaches 0.50."
    )
