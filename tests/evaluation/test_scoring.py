"""Scoring of texts and splits by readers whose predictions are known."""

import gzip
import io
import itertools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from charlm.common.errors import CheckpointError, DataError
from charlm.config.schema import DataConfig
from charlm.evaluation import reading, scoring
from charlm.evaluation.alternatives import ALTERNATIVES, Alternatives
from charlm.evaluation.mixture import Mixture, ngram_distributions
from charlm.evaluation.reading import Floats, Integers, ReadCallback, ignore
from charlm.evaluation.scoring import Listeners, score_pieces, score_split, score_text, summary
from charlm.evaluation.tally import Score, Tally, in_bits
from charlm.models.ngram import NGram
from charlm.models.recurrent import CharModel
from charlm.text.corpus import Corpus
from charlm.text.splits import Split
from charlm.text.stretch import Stretch
from charlm.text.vocabulary import BYTES, BYTES_IN_RECORDS, Vocabulary

LETTERS = Vocabulary("char", "none", tuple(range(97, 105)), has_unknown=True)
LISTED = Vocabulary("char", "none", tuple(range(97, 105)), has_unknown=True, has_end=True)
WITHOUT_UNKNOWN = Vocabulary("char", "none", tuple(range(97, 105)), has_unknown=False)


@dataclass
class Pairs:
    """A network that predicts each symbol from the one before it, by a table of ln p.

    Its lanes record the longest row of symbols that they read.
    """

    logs: Floats
    longest: int = 0

    @property
    def vocabulary_size(self) -> int:
        return len(self.logs)

    def lanes(self, count: int) -> "Row":
        return Row(self)

    def __call__(
        self, stretch: Stretch, *, window: int = 0, advanced: ReadCallback = ignore
    ) -> Floats:
        return reading.surprisals(self, stretch, window=window, advanced=advanced)

    def distributions(
        self, stretch: Stretch, *, window: int = 0, advanced: ReadCallback = ignore
    ) -> Floats:
        return reading.log_distributions(self, stretch, window=window, advanced=advanced)

    def costs(self, symbols: list[int]) -> list[float]:
        """Return -ln p of each symbol; the first one has no context and is predicted uniformly."""
        after = [-float(self.logs[pair]) for pair in itertools.pairwise(symbols)]
        return [math.log(len(self.logs)), *after]


@dataclass
class Row:
    network: Pairs
    read_so_far: int = 0

    def read(self, symbols: Integers, targets: Integers | None) -> Floats:
        self.read_so_far += len(symbols)
        self.network.longest = max(self.network.longest, self.read_so_far)
        logs = self.network.logs[symbols]
        if targets is None:
            return logs
        return -np.take_along_axis(logs, targets[..., None], -1)[..., 0]

    def restart(self) -> None:
        """Do nothing: there is no state."""


def pairs(size: int, seed: int = 0) -> Pairs:
    chances = np.random.default_rng(seed).dirichlet(np.ones(size), size)
    return Pairs(np.log(chances).astype(np.float32))


@dataclass
class Heard:
    """Listeners that record all that they hear."""

    symbols: list[int] = field(default_factory=list)
    nats: list[float] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    advanced: int = 0

    def listeners(self) -> Listeners:
        def each(symbols: object, nats: Floats) -> None:
            self.symbols += np.asarray(symbols).tolist()
            self.nats += nats.tolist()
            self.segments.append(len(nats))

        def advanced(count: int) -> None:
            self.advanced += count

        return Listeners(each, advanced)


def letters(count: int, seed: int = 1) -> str:
    return "".join(np.random.default_rng(seed).choice([*"abcdefgh"], count))


@pytest.mark.parametrize("window", [0, 7])
@pytest.mark.parametrize("sizes", [(1000,), (1, 2, 497, 500), (501, 499)])
def test_text_in_pieces_has_the_score_of_the_whole(
    sizes: tuple[int, ...], window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "SEGMENT", 100)
    text, network, heard = letters(1000), pairs(len(LETTERS)), Heard()
    places = np.cumsum([0, *sizes])
    parts = [text[begin:end] for begin, end in itertools.pairwise(places)]
    score = score_pieces(network, LETTERS, parts, window, listeners=heard.listeners())
    symbols = LETTERS.encode(text).tolist()
    expected = network.costs(symbols)
    assert heard.symbols == symbols
    assert heard.nats == pytest.approx(expected, rel=1e-6)
    assert score == Score(pytest.approx(sum(expected)), 1000, 1000, 1000)  # type: ignore[arg-type]
    # Whole windows; the first segment has one symbol more, which is only read.
    step = 98 if window else 100
    first, last = step + 1, (1000 - step - 1) % step
    assert heard.segments == [first, *[step] * ((999 - step) // step), *([last] if last else [])]
    assert heard.advanced == 999 if window else heard.advanced >= 999


def test_segment_is_read_after_a_warm_up_on_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scoring, "SEGMENT", 300)
    seen: list[tuple[int, int, int]] = []

    def read(stretch: Stretch, *, window: int = 0, advanced: ReadCallback = ignore) -> Floats:
        seen.append((len(stretch.symbols), stretch.start, stretch.stop))
        return np.ones(len(stretch), np.float32)

    score = score_pieces(read, LETTERS, [letters(901)])
    assert score.nats == 901
    context = reading.WARM_UP + 1  # the symbol before the first that is read is its input
    assert seen == [(301, 0, 301), *[(context + 300, context, context + 300)] * 2]


def test_unknown_character_costs_a_guess_among_those_outside_the_vocabulary() -> None:
    guess = math.log(0x110000 - 0x800 - 8)
    network = pairs(len(LETTERS))
    score = score_pieces(network, LETTERS, ["ab\u00e9", "\U0001f600c"])
    known = sum(network.costs([0, 1, 8, 8, 2]))
    assert score == Score(pytest.approx(known + 2 * guess), 5, 5, 9, 2)  # type: ignore[arg-type]
    # A vocabulary without the symbol leaves the characters out; they count as symbols still.
    network = pairs(len(WITHOUT_UNKNOWN))
    score = score_pieces(network, WITHOUT_UNKNOWN, ["ab\u00e9", "\U0001f600c"])
    known = sum(network.costs([0, 1, 2]))
    assert score == Score(pytest.approx(known + 2 * guess), 5, 5, 9, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["lines", "files"])
def test_records_are_read_after_the_end_of_another_and_their_ends_counted(kind: str) -> None:
    data = DataConfig.model_validate({"records": kind})
    pieces: list[scoring.Given] = (
        ["ab\nc", "xx\n\n", "d"] if kind == "lines" else [["ab", "cxx"], ["d"]]
    )
    network, heard = pairs(len(LISTED)), Heard()
    score = score_pieces(network, LISTED, pieces, data=data, listeners=heard.listeners())
    unknown, end = 8, 9
    symbols = [0, 1, end, 2, unknown, unknown, end, 3, end]
    assert heard.symbols == symbols
    # The first symbol follows an end, so none is predicted uniformly.
    expected = sum(network.costs([end, *symbols])[1:]) + 2 * math.log(LISTED.outside)
    size = 9 if kind == "lines" else 6  # a file has no character at its end
    assert score == Score(pytest.approx(expected), 9, size, size, 2)  # type: ignore[arg-type]


def test_bytes_models_read_texts_and_lists_as_their_utf8() -> None:
    network, heard = pairs(256), Heard()
    score = score_pieces(network, BYTES, ["\u00e9a", ["b", "c"]], listeners=heard.listeners())
    assert bytes(heard.symbols) == "\u00e9ab\nc\n".encode()
    assert (score.characters, score.bytes, score.unknown) == (6, 7, 0)
    network, heard = pairs(257), Heard()
    data = DataConfig.model_validate({"records": "lines"})
    given: list[scoring.Given] = ["\u00e9\na", b"b"]
    score = score_pieces(network, BYTES_IN_RECORDS, given, data=data, listeners=heard.listeners())
    assert heard.symbols == [0xC3, 0xA9, 256, 97, 98, 256]
    assert (score.characters, score.bytes, score.unknown) == (5, 6, 0)


@pytest.mark.parametrize("pieces", [[], [""], ["\u00e9"]])
def test_text_without_a_known_symbol_is_refused(pieces: list[scoring.Given]) -> None:
    with pytest.raises(DataError) as refused:
        score_pieces(pairs(8), WITHOUT_UNKNOWN, pieces)
    assert refused.value.what == "the text is empty"
    assert refused.value.advice == "give a text with at least one known character"


def test_score_that_is_no_number_is_refused() -> None:
    network = Pairs(np.full((9, 9), np.nan, np.float32))
    with pytest.raises(CheckpointError):
        score_pieces(network, LETTERS, ["abc"])
    with pytest.raises(CheckpointError):
        score_split(network, corpus("abc"), "train")


def corpus(text: str, start: int = 0, unknown: int = 0) -> Corpus:
    size = len(text) - start
    split = Split(start, len(text), size, size, {"?": unknown} if unknown else {})
    return Corpus(LETTERS, LETTERS.encode(text), {"train": split}, "")  # type: ignore[arg-type]


@pytest.mark.parametrize("window", [0, 7])
@pytest.mark.parametrize("start", [0, 30])
def test_split_is_scored_without_the_first_symbol_of_the_text(
    start: int, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "SEGMENT", 100)
    text, network, heard = letters(700), pairs(len(LETTERS)), Heard()
    score = score_split(network, corpus(text, start), "train", window, heard.listeners())
    symbols, first = LETTERS.encode(text).tolist(), max(1, start)
    expected = network.costs(symbols)[first:]
    assert heard.symbols == symbols[first:]
    assert heard.nats == pytest.approx(expected, rel=1e-6)
    size = 700 - first
    assert score == Score(pytest.approx(sum(expected)), size, size, size)  # type: ignore[arg-type]
    assert heard.segments[0] == (98 if window else 100)
    assert heard.advanced == size if window else heard.advanced >= size


def test_split_is_read_statefully_unless_a_window_is_given() -> None:
    network = pairs(len(LETTERS))
    score_split(network, corpus(letters(300)), "train")
    stateful, network.longest = network.longest, 0
    score_split(network, corpus(letters(300)), "train", 5)
    assert (stateful, network.longest) == (299 + reading.WARM_UP, 5)


def test_unknown_characters_of_a_split_cost_their_guesses() -> None:
    network = pairs(len(LETTERS))
    without, with_ = (score_split(network, corpus("abcabc", 2, n), "train") for n in (0, 3))
    assert with_.nats == pytest.approx(without.nats + 3 * math.log(LETTERS.outside))
    assert (with_.unknown, with_.symbols) == (3, without.symbols)


def test_text_is_scored_with_its_symbols(lstm: Callable[[int], CharModel]) -> None:
    model = lstm(len(LETTERS))
    found = score_text(model, LETTERS, "abcdx")
    assert found.symbols.tolist() == [0, 1, 2, 3, 8]
    assert found.surprisals.shape == (5,)
    assert found.surprisals[0].item() == pytest.approx(math.log(len(LETTERS)))
    total = found.surprisals.double().sum().item() + math.log(LETTERS.outside)
    assert found.score == Score(pytest.approx(total), 5, 5, 5, 1)  # type: ignore[arg-type]
    windows = score_text(model, LETTERS, "abcdx", 1)
    assert windows.score.nats != found.score.nats
    listed = score_text(
        lstm(len(LISTED)), LISTED, "ab\ncd", data=DataConfig.model_validate({"records": "lines"})
    )
    assert listed.symbols.tolist() == [0, 1, 9, 2, 3, 9]


@pytest.fixture
def lstm() -> Callable[[int], CharModel]:
    from charlm.config.schema import ModelConfig

    def make(size: int) -> CharModel:
        model = CharModel(ModelConfig.model_validate({"cell": "lstm", "hidden_size": 8}), size)
        model.reset_parameters(1)
        return model.requires_grad_(False)

    return make


def test_summary_names_the_protocol_and_every_ratio() -> None:
    score = Score(nats=math.log(2) * 60, symbols=20, characters=10, bytes=15, unknown=3)
    assert summary(score, 0, {"run": 0.5}, adapted=True) == {
        "characters": 10,
        "bytes": 15,
        "loss": pytest.approx(math.log(2) * 3),
        "bits_per_character": pytest.approx(6),
        "bits_per_byte": pytest.approx(4),
        "perplexity": pytest.approx(8),
        "unknown_characters": 3,
        "protocol": "stateful",
        "adapted": True,
        "mixture": {"run": 0.5},
    }
    windowed = summary(score, 1, {}, adapted=False)
    assert (windowed["protocol"], windowed["adapted"], windowed["mixture"]) == ("window", False, {})


def test_perplexity_of_any_loss_is_a_number() -> None:
    assert Score(1e9, 1, 1, 1).perplexity == math.exp(700)
    assert Score(699.5, 1, 1, 1).perplexity == math.exp(699.5)


def test_scores_of_several_texts_are_summed_exactly() -> None:
    many = [Score(0.1, 1, 2, 3, 4)] * 10
    assert Score.total(many) == Score(1.0, 10, 20, 30, 40)


def test_surprisals_in_bits_include_the_guess_of_unknown_characters() -> None:
    nats = np.array([1, 2, 3], np.float32)
    found = in_bits(LETTERS, np.array([0, 8, 1]), nats)
    guess = math.log2(LETTERS.outside)
    expected = [1 / math.log(2), 2 / math.log(2) + guess, 3 / math.log(2)]
    assert found.dtype == np.float64
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    assert in_bits(WITHOUT_UNKNOWN, np.array([0, 7, 1]), nats).tolist() == pytest.approx(
        [n / math.log(2) for n in (1, 2, 3)], rel=1e-12
    )


def test_tally_adds_surprisals_in_double_precision() -> None:
    total = Tally(LETTERS)
    for _ in range(2):
        total.add_surprisals(np.array([2**24, 1, 1, 1], np.float32))
    total.add_text(4, 5, 0)
    total.add_text(3, 2, 0)
    assert total.score() == Score(2**25 + 6, 8, 7, 7)


# ---- files --------------------------------------------------------------------------------------


def read_all(file: Path | str, vocabulary: Vocabulary = LETTERS, **options: object) -> list[object]:
    return [*scoring.pieces_of(str(file), vocabulary, DataConfig.model_validate(options))]


def test_file_of_objects_is_read_by_its_field_and_any_other_as_text(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"text": text}) + "\n" for text in ("ab", "c"))
    for name, content in (
        ("a.jsonl", lines.encode()),
        ("a.jsonl.gz", gzip.compress(lines.encode())),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        assert [one for one in read_all(path, field="text") if one] == [["ab", "c"]]
        assert read_all(path) == [lines]
    (tmp_path / "a.txt").write_text("ab")
    assert read_all(tmp_path / "a.txt", field="text") == ["ab"]
    assert read_all(tmp_path / "a.txt", BYTES) == [b"ab"]


def test_missing_file_is_named(tmp_path: Path) -> None:
    for vocabulary in (LETTERS, BYTES):
        with pytest.raises(DataError) as refused:
            read_all(tmp_path / "missing.txt", vocabulary)
        assert "missing.txt" in refused.value.what


def test_stdin_is_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "BLOCK", 3)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"abcdeabcde")))
    assert read_all("-", BYTES) == [b"abc", b"dea", b"bcd", b"e"]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"abcdeabcde")))
    assert "".join(map(str, read_all("-"))) == "abcdeabcde"


def test_wrong_encoding_is_answered_with_the_option_of_score(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfa\xe9")
    with pytest.raises(DataError) as refused:
        read_all(tmp_path / "a.txt")
    assert "--encoding" in refused.value.advice


def test_size_is_known_for_plain_files_only(tmp_path: Path) -> None:
    for name in ("a.txt", "a.txt.gz", "a.parquet"):
        (tmp_path / name).write_bytes(b"12345")
    assert scoring.size_of(str(tmp_path / "a.txt")) == 5
    for name in ("a.txt.gz", "a.parquet", "missing.txt", "-", "."):
        assert scoring.size_of(str(tmp_path / name)) is None


# ---- alternatives and mixtures ------------------------------------------------------------------


@pytest.mark.parametrize("window", [0, 4])
@pytest.mark.parametrize("most", [0, 7, 40, 100])
def test_alternatives_are_the_most_probable_symbols(
    most: int, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charlm.evaluation.alternatives.LOGS_AT_ONCE", 9 * 12)
    network, heard = pairs(9), Heard()
    reader = Alternatives(network.distributions, 9, most)
    stretch = Stretch(LETTERS.encode(letters(60)), 20, 60)
    nats = reader(stretch, window=window, advanced=heard.listeners().advanced)
    assert nats.tolist() == pytest.approx(network(stretch, window=window).tolist())
    assert heard.advanced >= 40
    symbols, chances = reader.found()
    recorded = min(most, 40)
    assert symbols.shape == chances.shape == (recorded, ALTERNATIVES)
    logs = network.logs[np.asarray(stretch.symbols)[19:59]][:recorded]
    order = np.argsort(-logs, axis=1)[:, :ALTERNATIVES]
    assert symbols.tolist() == order.tolist()
    expected = np.exp(np.take_along_axis(logs, order, 1))
    assert chances.ravel().tolist() == pytest.approx(expected.ravel().tolist())


def test_small_vocabulary_has_as_many_alternatives_as_symbols() -> None:
    network = pairs(3)
    reader = Alternatives(network.distributions, 3, 10)
    reader(Stretch.of(np.array([0, 1, 2, 0], np.uint8)))
    symbols, chances = reader.found()
    assert symbols.shape == (4, 3)
    assert chances.sum(1).tolist() == pytest.approx([1.0] * 4)


@pytest.mark.parametrize("window", [0, 6])
def test_mixture_of_networks_alone_reads_by_the_same_protocol(window: int) -> None:
    one, other, heard = pairs(9), pairs(9, 5), Heard()
    text = LETTERS.encode(letters(200))
    stretch = Stretch(text, 1, 200)

    def mixed() -> Mixture:
        return Mixture({"a": one.distributions, "b": other.distributions}, 9)

    found = mixed()(stretch, window=window, advanced=heard.listeners().advanced)
    assert heard.advanced >= 199  # of one network only
    assert (max(one.longest, other.longest) == 6) == bool(window)
    logs = mixed().distributions(stretch, window=window).double().numpy()
    assert np.exp(logs).sum(1).tolist() == pytest.approx([1.0] * 199, abs=1e-5)
    costs = -logs[np.arange(199), stretch.read()]
    assert found.tolist() == pytest.approx(costs.tolist(), abs=1e-5)
    # The first block has the powers of a geometric mean.
    first = one.logs[text[:16]] / 2 + other.logs[text[:16]] / 2
    first = first - np.log(np.exp(first).sum(1, keepdims=True))
    assert logs[:16].ravel().tolist() == pytest.approx(first.ravel().tolist(), abs=1e-5)
    brief = mixed()
    brief(stretch.head(16))  # a block, before the first update
    assert brief.mean_powers() == {"a": 0.5, "b": 0.5}


@pytest.mark.parametrize("start", [0, 1, 37])
@pytest.mark.parametrize("window", [0, 6])
def test_ngram_predicts_from_the_symbols_of_its_window(start: int, window: int) -> None:
    text, size = LETTERS.encode(letters(300)).astype(np.int64), len(LETTERS)
    model = NGram.of(text.astype(np.uint8), size)
    back = model.order - 1
    logs, cases = ngram_distributions(model, Stretch(text, start, 60), window)
    first = max(start, 1)  # the first symbol of a text is only read
    for place in range(start, 60):
        begin = place - 1 - (place - first) % window if window else 0
        known = text[max(0, begin, place - back) : place].tolist()
        context = np.array([[size] * (back - len(known)) + known])
        expected = np.log(model.distributions(context))[0]
        assert logs[place - start].tolist() == pytest.approx(expected.tolist(), abs=1e-6)
        assert cases[place - start] == model.cases(context)[0]
