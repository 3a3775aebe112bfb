import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charlm.cells import CELLS
from charlm.config.schema import ModelConfig, SampleConfig
from charlm.models.recurrent import CharModel
from charlm.native.interface import UNBOUNDED
from charlm.sampling.decoder import StreamDecoder
from charlm.sampling.engine import TorchEngine
from charlm.sampling.filters import choose, keep_top_k, keep_top_p, with_temperature
from charlm.sampling.generate import Draw, Generation, bits_per_character
from charlm.text.display import named, visible
from charlm.text.vocabulary import BYTES, Vocabulary

LETTERS = Vocabulary("char", "none", tuple(map(ord, "\nabcdefghi")), True)


def made(cell: str = "lstm", size: int = len(LETTERS), **changes: object) -> CharModel:
    config = ModelConfig.model_validate(
        {"cell": cell, "hidden_size": 16, "embedding_size": 5, "num_layers": 2, **changes}
    )
    model = CharModel(config, size)
    model.reset_parameters(5)
    model.head.weight.data *= 20  # far from uniform
    return model.requires_grad_(False)


def generation(
    model: CharModel, vocabulary: Vocabulary = LETTERS, **options: object
) -> tuple[str, Generation]:
    prompt = str(options.pop("prompt", ""))
    draw = {key: options.pop(key) for key in ("seed", "num", "stop") if key in options}
    config = SampleConfig.model_validate({"length": 60, **options})
    found = Generation(model, vocabulary, config, prompt, Draw(**draw))  # type: ignore[arg-type]
    return "".join(found), found


def written(model: CharModel, vocabulary: Vocabulary = LETTERS, **options: object) -> str:
    return generation(model, vocabulary, **options)[0]


# ---- the engine ---------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize(
    "changes",
    [
        {"cell": "rnn"},
        {"cell": "rnn", "nonlinearity": "relu"},
        {"cell": "lstm"},
        {"cell": "gru"},
        {"cell": "gru", "reset_gate": "before"},
        {"cell": "lstm", "bias": False},
        {"cell": "gru", "embedding_size": 0},
    ],
)
def test_engine_gives_the_models_own_logits(changes: dict[str, object], streams: int) -> None:
    model = made(**changes)  # type: ignore[arg-type]
    symbols = torch.randint(len(LETTERS), (9, streams), generator=torch.Generator().manual_seed(1))
    expected, _ = model(symbols, model.initial_states(streams))
    engine = TorchEngine(model, streams)
    found = torch.stack([engine.read(row) for row in symbols])
    # The sums are taken in another order: float32 rounding of logits of size 20.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_engine_leaves_the_model_as_it_was() -> None:
    model = made()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    TorchEngine(model).read(torch.tensor([1]))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.is_contiguous()


# ---- filters ------------------------------------------------------------------------------------

LOGITS = torch.log(torch.tensor([[0.1, 0.5, 0.05, 0.3, 0.05]]))


def test_temperature_sharpens_below_one_and_flattens_above() -> None:
    best = [with_temperature(LOGITS, t).softmax(-1).max().item() for t in (0.5, 1.0, 2.0)]
    assert best[0] > 0.51 > best[1] > 0.49 > best[2]


def test_top_k_keeps_the_k_most_probable() -> None:
    assert keep_top_k(LOGITS, 2).isfinite().tolist() == [[False, True, False, True, False]]
    assert torch.equal(keep_top_k(LOGITS, 5), LOGITS)
    assert torch.equal(keep_top_k(LOGITS, 99), LOGITS)


@pytest.mark.parametrize(
    ("p", "kept"),
    [(0.01, [1]), (0.5, [1]), (0.51, [1, 3]), (0.85, [0, 1, 3]), (1.0, [0, 1, 2, 3, 4])],
)
def test_top_p_keeps_the_fewest_symbols_that_reach_p(p: float, kept: list[int]) -> None:
    found = keep_top_p(LOGITS, p)[0].isfinite().nonzero().flatten().tolist()
    assert found == kept


def test_choose_inverts_the_distribution_and_never_takes_what_is_dropped() -> None:
    settings = SampleConfig(temperature=1.0)
    uniform = torch.linspace(0, 1, 10_001, dtype=torch.float64)[:-1]
    found = choose(LOGITS.expand(10_000, -1), settings, uniform)
    shares = torch.bincount(found, minlength=5) / 10_000
    torch.testing.assert_close(shares, LOGITS.exp()[0], rtol=0, atol=2e-4)
    only = LOGITS.masked_fill(torch.tensor([[True, True, False, True, True]]), -math.inf)
    edges = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert choose(only.expand(3, -1), settings, edges).tolist() == [2, 2, 2]


def test_choose_is_greedy_at_temperature_zero() -> None:
    assert choose(LOGITS, SampleConfig(temperature=0.0), torch.tensor([0.99])).tolist() == [1]


# ---- texts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_same_seed_same_text_and_another_seed_another(cell: str) -> None:
    model = made(cell)
    unbounded = cell in UNBOUNDED
    warm = {"temperature": 5.0} if unbounded else {}
    assert written(model, seed=3, **warm) == written(model, seed=3, **warm)
    assert written(model, seed=3, **warm) != written(model, seed=4, **warm)
    assert len(written(model, seed=3, **warm)) == 60


def test_greedy_text_is_the_argmax_of_the_model() -> None:
    model = made()
    found = written(model, prompt="ab", temperature=0.0, length=20)
    indices = LETTERS.encode("ab").tolist()
    for _ in range(20):
        logits, _ = model(torch.tensor(indices)[:, None], model.initial_states(1))
        indices.append(int(logits[-1, 0, :-1].argmax()))
    assert found == LETTERS.decode(indices[2:])


def test_unknown_is_never_written_though_the_model_prefers_it() -> None:
    model = made()
    model.head.bias.data[LETTERS.unknown] = 100
    assert set(written(model)) <= set("\nabcdefghi")


def test_bits_of_a_sample_are_those_of_the_unfiltered_model() -> None:
    model = made()
    text, found = generation(model, prompt="abc", length=25, temperature=0.5, top_k=3)
    whole = torch.tensor(LETTERS.encode("abc" + text).tolist())
    logits, _ = model(whole[:-1, None], model.initial_states(1))
    costs = -logits[:, 0].log_softmax(-1)[torch.arange(27), whole[1:]]
    expected = costs[2:].sum().item() / math.log(2) / 25
    assert bits_per_character(found.samples[0], LETTERS) == pytest.approx(expected, rel=1e-4)


def test_num_writes_texts_that_differ_and_repeat_with_the_seed() -> None:
    model = made()
    first, again = (generation(model, num=4)[1].samples for _ in range(2))
    assert len({sample.text for sample in first}) == 4
    assert [s.text for s in first] == [s.text for s in again]


def test_stop_ends_before_the_text_even_where_it_is_split_over_pieces() -> None:
    model = made()
    text = written(model, seed=2, length=200)
    stop = text[50:53]
    ended = written(model, seed=2, length=200, stop=stop)
    assert ended == text[: text.index(stop)]
    assert written(model, seed=2, length=200, stop="zzz") == text


def test_stop_matches_in_the_form_that_the_text_is_written_in() -> None:
    codes = dict.fromkeys(map(ord, "\n \u1112\u1161\u11ab\u1100\u1173\u11af"))
    vocabulary = Vocabulary("jamo", "none", tuple(codes), True)
    decoder = generation(made(size=9), vocabulary, stop="\u1112\u1161\u11ab")[1]._decoders[0]
    assert "".join(map(decoder.add, vocabulary.encode("글 한글").tolist())) == "글 "
    assert decoder.stopped


def test_unknown_prompt_characters_are_read_as_unknown() -> None:
    model = made()
    assert written(model, prompt="aXb", seed=1) != written(model, prompt="ab", seed=1)


def test_without_newline_a_text_begins_with_the_first_trained_character() -> None:
    vocabulary = Vocabulary("char", "none", tuple(map(ord, "helo")), False)
    model = made(size=4)
    text = written(model, vocabulary, length=6)
    assert text[0] == "h"
    assert len(text) == 6
    assert written(model, vocabulary, prompt="XY", length=6)[0] == "h"


@given(st.text(st.sampled_from("한글 가나다라e\u0301q\u0323\u0307x\n"), max_size=20))
def test_jamo_come_out_as_whole_syllables(text: str) -> None:
    codes = dict.fromkeys(map(ord, "\u0301\u0323\u0307eqx \n"))
    codes |= dict.fromkeys(range(0x1100, 0x1200))
    vocabulary = Vocabulary("jamo", "none", tuple(codes), True)
    composer = StreamDecoder(vocabulary, stop="")
    pieces = [composer.add(int(i)) for i in vocabulary.encode(text)] + [composer.rest()]
    assert "".join(pieces) == vocabulary.normalized(text)


@given(st.text(max_size=20))
def test_bytes_come_out_as_whole_characters(text: str) -> None:
    content = text.encode("utf-8", "replace")
    composer = StreamDecoder(BYTES, stop="")
    pieces = [composer.add(b) for b in content] + [composer.rest()]
    assert "".join(pieces) == content.decode()
    for piece in pieces:
        piece.encode("utf-8")  # no piece is half a character


@pytest.mark.parametrize("character", ["a", "é", "한", "\U0001f600"])
def test_a_character_comes_out_with_its_last_byte(character: str) -> None:
    composer = StreamDecoder(BYTES, stop="")
    *first, last = [composer.add(byte) for byte in character.encode()]
    assert (first, last) == ([""] * (len(character.encode()) - 1), character)


@given(st.binary(max_size=20))
def test_bytes_that_are_no_text_come_out_as_those_bytes(content: bytes) -> None:
    composer = StreamDecoder(BYTES, stop="")
    pieces = [composer.add(b) for b in content] + [composer.rest()]
    assert "".join(pieces).encode("utf-8", "surrogateescape") == content


# ---- showing ------------------------------------------------------------------------------------


def test_control_characters_are_made_visible_and_text_is_not_touched() -> None:
    assert visible("a\tb\nĉ한 [bold]") == "a\tb\nĉ한 [bold]"
    assert visible("\x1b[31m\r\x00\x7f") == "\u241b[31m\u240d\u2400\u2421"
    assert visible("\x9b\u202e\u2028") == "\\u009b\\u202e\\u2028"
    assert visible(b"\xff".decode("utf-8", "surrogateescape")) == "\\xff"


def test_unknown_characters_are_named_by_code_point() -> None:
    assert named(["ß", "\x1b"]) == r"'ß' (U+00DF), '\x1b' (U+001B)"
    assert named(map(chr, range(97, 109))).endswith("and 4 more")
