"""Looking into a trained model, at its limits: short texts, empty ones, nothing to be found."""

from pathlib import Path

import numpy as np
import pytest

from charlm.common.errors import DataError, UsageError
from charlm.config.schema import ModelConfig
from charlm.evaluation.reading import WARM_UP
from charlm.inspection import context, copies, excerpt, features, gates, inputs, truncation, units
from charlm.inspection import jacobian as jacobians
from charlm.inspection.copies import Span
from charlm.inspection.influence import LONGEST, influence
from charlm.models.recurrent import CharModel
from charlm.text.corpus import Corpus
from charlm.text.splits import Split
from charlm.text.stretch import Stretch
from charlm.text.vocabulary import Vocabulary

SIZE = 9
LETTERS = Vocabulary("char", "none", tuple(range(97, 97 + SIZE)), has_unknown=False)


@pytest.fixture
def model() -> CharModel:
    made = CharModel(ModelConfig(cell="lstm", hidden_size=6, embedding_size=4, num_layers=2), SIZE)
    made.reset_parameters(3)
    return made.requires_grad_(False)


def some_symbols(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, SIZE, count).astype(np.uint8)


def excerpt_of(count: int) -> excerpt.Excerpt:
    return excerpt.Excerpt(some_symbols(count), 0, count, LETTERS)


# ---- short texts --------------------------------------------------------------------------------


def test_context_is_measured_from_eighteen_symbols_on(model: CharModel) -> None:
    with pytest.raises(DataError) as refused:
        context.context_use(model, excerpt_of(17), some_symbols(50))
    assert refused.value.what == "the validation split has 17 symbols, 18 are needed"
    use = context.context_use(model, excerpt_of(18), some_symbols(50))
    assert use.lengths == [0, 1, 2, 4, 8]


def test_truncation_takes_a_warm_up_and_a_whole_stretch(
    model: CharModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(truncation, "STRETCH", 4)
    needed = WARM_UP + 4 + 1
    with pytest.raises(DataError) as refused:
        truncation.truncation_errors(model, excerpt_of(needed - 1))
    assert f"has {needed - 1:,} symbols, {needed:,} are needed" in refused.value.what
    errors = truncation.truncation_errors(model, excerpt_of(needed))
    assert [one.steps for one in errors] == [1, 2, 4]


def test_jacobian_takes_a_warm_up(model: CharModel) -> None:
    short = Stretch.of(some_symbols(WARM_UP + 1))
    with pytest.raises(DataError) as refused:
        jacobians.singular_values(model, short)
    assert refused.value.what == f"{WARM_UP + 1:,} symbols are too few"
    assert refused.value.advice == f"use more than {WARM_UP + 1:,}"
    found = jacobians.singular_values(model, Stretch.of(some_symbols(WARM_UP + 2)))
    assert [values.shape for values in found] == [(1, 12), (1, 12)]


def test_validation_split_has_as_many_symbols_as_are_asked_for() -> None:
    split = Split(40, 70, 30, 30, {})
    corpus = Corpus(LETTERS, some_symbols(70), {"validation": split}, "")  # type: ignore[arg-type]
    with pytest.raises(DataError) as refused:
        excerpt.validation(corpus, 31)
    assert refused.value.what == "the validation split has 30 symbols, at least 31 are needed"
    assert "data.split" in refused.value.advice
    found = excerpt.validation(corpus, 30)
    assert found.characters() == [chr(97 + symbol) for symbol in corpus.symbols[40:70].tolist()]


@pytest.mark.parametrize("count", [0, 1, LONGEST + 1])
def test_influence_takes_two_to_four_hundred_symbols(model: CharModel, count: int) -> None:
    with pytest.raises(UsageError) as refused:
        influence(model, some_symbols(count))
    assert refused.value.what == f"the text has {count:,} symbols; it takes 2 to {LONGEST:,}"


def test_characters_that_the_model_lacks_are_not_drawn(model: CharModel) -> None:
    with pytest.raises(UsageError, match="the model does not know 'z'") as refused:
        gates.gates_of(model, LETTERS, "abzc")
    assert refused.value.advice == "leave them out of the text"
    known = Vocabulary("char", "none", LETTERS.code_points[:-1], has_unknown=True)
    assert gates.known_symbols(known, "abzc").tolist() == [0, 1, SIZE - 1, 2]


# ---- little to be found -------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 5), (7, 1)])
def test_units_stay_in_their_order_without_two_patterns(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    assert gates.ordered(values).tolist() == list(range(shape[1]))


def test_no_unit_follows_a_feature_that_never_changes() -> None:
    values = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    half = units.Read(["a"] * 20, values, [(0, "h", unit) for unit in range(3)], 20)
    never = np.zeros(40, np.float32)
    in_one_half = np.concatenate([values[:, 0], np.ones(20, np.float32)])
    asked = {"digit": never, "vowel": in_one_half}
    assert units.best_units([half, half], asked) == []
    (found,) = units.best_units([half, half], {**asked, "both": np.tile(values[:, 0], 2)})
    assert (found.feature, found.unit) == ("both", 0)


def test_apostrophes_and_marks_before_a_space_open_no_quotation() -> None:
    text = list("don't say 5' \"no\" or ' x")
    inside = features.features(text)["inside quotes"]
    assert "".join(c for c, on in zip(text, inside, strict=True) if on) == '"no'


def test_lines_with_a_label_and_no_text_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "lines.tsv"
    path.write_text("good\tyes\nbad\tno\n" * 20 + "good\t\nbad\t\r\nother\t\n\n", encoding="utf-8")
    assert inputs.read_labelled(path) == [("good", "yes"), ("bad", "no")] * 20


def test_spans_apart_do_not_overlap_and_are_the_longest() -> None:
    longest, within, behind = Span(10, 20, 0), Span(25, 15, 50), Span(30, 12, 80)
    before, last = Span(0, 10, 30), Span(60, 5, 90)
    spans = [longest, within, behind, before, last]
    assert copies.apart(spans, 9) == [longest, behind, before, last]
    assert copies.apart(spans, 2) == [longest, behind]


def test_text_shares_nothing_with_a_shorter_train_than_a_seed() -> None:
    text = some_symbols(40)
    assert copies.shared_spans(text, text[: copies.SEED - 1]) == []
    (found,) = copies.shared_spans(text, text[: copies.SEED])
    assert found == Span(0, copies.SEED, 0)
    assert copies.share_copied([found], 40) == copies.SEED / 40
