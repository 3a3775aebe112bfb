import pickle
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.common.errors import CheckpointError
from charlm.text.encode.counting import SymbolCounter
from charlm.text.vocabulary import BYTES, BYTES_IN_RECORDS, Vocabulary, codes_of, unit_codes

# Everything that a UTF-8 file can hold: lone surrogates cannot be in one.
texts = st.text(st.characters(exclude_categories=["Cs"]))


def vocabulary_of(text: str, unit: str = "char", normalize: str = "none") -> Vocabulary:
    counter = SymbolCounter()
    counter.add(unit_codes(text, unit, normalize))
    return Vocabulary(unit, normalize, tuple(counter.frequent(1)), True)  # type: ignore[arg-type]


def test_vocabulary_is_in_order_of_first_appearance_across_blocks() -> None:
    counter = SymbolCounter()
    for block in ("hel", "lo", " hello world"):
        counter.add(codes_of(block))
    assert [chr(c) for c in counter.frequent(1)] == list("helo wrd")
    assert [chr(c) for c in counter.frequent(2)] == list("helo ")
    assert counter.counts[ord("l")] == 5


@given(
    texts.filter(bool), st.sampled_from(["char", "jamo"]), st.sampled_from(["none", "nfc", "nfd"])
)
def test_decode_of_encode_is_the_normalized_text(text: str, unit: str, normalize: str) -> None:
    vocabulary = vocabulary_of(text, unit, normalize)
    assert vocabulary.decode(vocabulary.encode(text)) == vocabulary.normalized(text)


@given(texts)
def test_char_units_without_normalization_lose_nothing(text: str) -> None:
    vocabulary = vocabulary_of(text + "x")
    assert vocabulary.decode(vocabulary.encode(text)) == text


@given(st.binary())
def test_byte_units_take_every_bytes_at_all(content: bytes) -> None:
    indices = BYTES.encode(content)
    assert indices.tolist() == list(content)
    assert BYTES.decode(indices).encode("utf-8", "surrogateescape") == content
    assert len(BYTES) == 256
    assert BYTES.unknown is None


@given(texts)
def test_counts_of_a_decomposed_text_need_no_decomposed_text(text: str) -> None:
    whole, counter = f"{text}각e\u0301\u0323 é ǖ", SymbolCounter()
    counter.add(codes_of(whole))
    counter.decompose()
    expected = SymbolCounter()
    expected.add(codes_of(unicodedata.normalize("NFD", whole)))
    assert np.array_equal(counter.counts, expected.counts)
    assert sorted(counter.order) == sorted(expected.order)


def test_jamo_decompose_syllables_and_compose_them_again() -> None:
    vocabulary = vocabulary_of("한국어", "jamo")
    assert len(vocabulary.encode("한국어")) == len(unicodedata.normalize("NFD", "한국어")) == 8
    assert vocabulary.decode(vocabulary.encode("한국어")) == "한국어"


def test_unknown_symbols_are_encoded_counted_and_marked() -> None:
    vocabulary = vocabulary_of("hello")
    assert vocabulary.encode("hexxl").tolist() == [0, 1, 4, 4, 2]
    assert vocabulary.unknown_in("hexyxl") == {"x": 2, "y": 1}
    assert vocabulary.decode([0, 4]) == "h\N{REPLACEMENT CHARACTER}"


SCRIPTS = {
    "Thai": "ภาษาไทยน้ำใจที่รู้",
    "Arabic with marks": "بِسْمِ ٱللَّهِ ٱلرَّحْمَٰنِ",
    "emoji": "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 ❤️",
    "Hangul": "한국어 ᄒᆞᆫ글 각",
    "Devanagari": "क्षत्रिय ड़",
}


@pytest.mark.parametrize("unit", ["char", "byte", "jamo"])
@pytest.mark.parametrize("normalize", ["none", "nfc", "nfd"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_come_back_in_the_promised_form(script: str, unit: str, normalize: str) -> None:
    text = SCRIPTS[script]
    vocabulary = BYTES if unit == "byte" else vocabulary_of(text, unit, normalize)
    form = {"none": "NFC" if unit == "jamo" else "", "nfc": "NFC", "nfd": "NFD"}[normalize]
    expected = unicodedata.normalize(form, text) if form and unit != "byte" else text
    assert vocabulary.decode(vocabulary.encode(text)) == expected
    ending = replace(vocabulary, has_end=True)
    found = ending.encode_records([text, text])
    assert ending.decode(found) == f"{expected}\n{expected}\n"
    assert (found == ending.end).sum() == 2


def test_the_end_of_a_record_is_the_last_index_and_in_no_text() -> None:
    vocabulary = replace(vocabulary_of("hello\n"), has_end=True)
    assert (vocabulary.unknown, vocabulary.end, len(vocabulary)) == (5, 6, 7)
    assert vocabulary.end not in vocabulary.encode("hello\n\ud800")
    assert vocabulary.encode_records(["he", "", "x\n"]).tolist() == [0, 1, 6, 6, 5, 4, 6]
    assert [vocabulary.symbol(i) for i in (4, 5, 6)] == ["\n", "\ufffd", "\n"]
    assert BYTES_IN_RECORDS.dtype == np.uint16
    assert BYTES_IN_RECORDS.encode(b"\xff\n").tolist() == [255, 10]
    assert BYTES_IN_RECORDS.encode_records([b"a", b"", b"\xff"]).tolist() == [
        97,
        256,
        256,
        255,
        256,
    ]
    assert BYTES_IN_RECORDS.decode([97, 256, 98]) == "a\nb"
    assert BYTES_IN_RECORDS.symbol(256) == "\n"


def test_symbols_before_a_text_and_first_in_one() -> None:
    plain, unlined = vocabulary_of("he\nlo"), vocabulary_of("hello")
    assert (plain.before, plain.first) == ([], 2)
    assert (unlined.before, unlined.first) == ([], 0)
    known = replace(unlined, has_unknown=True, has_end=True)
    assert (known.before, known.first) == ([known.end], 0)  # an unknown newline begins no text
    assert (BYTES_IN_RECORDS.before, BYTES_IN_RECORDS.first) == ([256], 10)


def test_without_an_unknown_symbol_the_unknown_is_left_out_and_still_named() -> None:
    vocabulary = Vocabulary("char", "none", tuple(map(ord, "helo")), False)
    assert vocabulary.encode("hxe").tolist() == [0, 1]
    assert vocabulary.unknown_in("hxe") == {"x": 1}


@pytest.mark.parametrize(("size", "dtype"), [(255, np.uint8), (256, np.uint16), (70000, np.uint32)])
def test_encoded_text_takes_the_smallest_type(size: int, dtype: type) -> None:
    vocabulary = Vocabulary("char", "none", tuple(range(size)), True)
    assert vocabulary.encode("abc").dtype == dtype


def test_vocabularies_survive_json() -> None:
    for vocabulary in (vocabulary_of("héllo ☃"), vocabulary_of("한국", "jamo", "nfd"), BYTES):
        ending = replace(vocabulary, has_end=True)
        assert Vocabulary.from_json(ending.to_json()) == ending
        older = {key: value for key, value in vocabulary.to_json().items() if key != "end"}
        assert Vocabulary.from_json(older) == vocabulary
        assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary


def test_the_table_of_a_vocabulary_is_not_handed_to_other_processes() -> None:
    vocabulary = vocabulary_of("héllo ☃")
    expected = vocabulary.encode("hello").tolist()
    content = pickle.dumps(vocabulary)
    assert len(content) < 1000
    handed_over = pickle.loads(content)
    assert handed_over == vocabulary
    assert handed_over.encode("hello").tolist() == expected


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"unit": "word", "normalize": "none", "unknown": None, "symbols": ["a"]},
        {"unit": "char", "normalize": "none", "unknown": None, "symbols": []},
        {"unit": "char", "normalize": "none", "unknown": None, "symbols": ["a", "a"]},
        {"unit": "char", "normalize": "none", "unknown": None, "symbols": ["ab"]},
        {"unit": "char", "normalize": "none", "unknown": 7, "symbols": ["a", "b"]},
        {"unit": "char", "normalize": "none", "unknown": None, "symbols": 3},
        {"unit": "char", "normalize": "none", "unknown": None, "end": 1, "symbols": ["a", "b"]},
        {"unit": "char", "normalize": "none", "unknown": 2, "end": True, "symbols": ["a", "b"]},
    ],
)
def test_what_is_no_vocabulary_is_refused(value: object) -> None:
    with pytest.raises(CheckpointError):
        Vocabulary.from_json(value)
