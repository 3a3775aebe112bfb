"""Texts in the encodings that people have them in: read as what they are, or refused by name."""

import codecs
import gzip
import io
import itertools
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from charlm.cli.streams import read_text
from charlm.common.errors import DataError
from charlm.common.files import cache_folder
from charlm.config.schema import DataConfig
from charlm.evaluation.scoring import pieces_of
from charlm.inspection.inputs import read_labelled
from charlm.text import corpus
from charlm.text.corpus import Corpus
from charlm.text.encode import workers
from charlm.text.files import compressed, decoding, measuring
from charlm.text.files.guessing import likeliest, wide_codec
from charlm.text.vocabulary import BYTES, Vocabulary

ALL = [1.0, 0.0, 0.0]
ANY = Vocabulary("char", "none", (97,), has_unknown=True)
MARKED = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}
MIXED = "abéß\u0301 \u4e00\u3042한가\U0001f600\U00010000\n"
"""Characters of one to four bytes, and of surrogate pairs."""

RUSSIAN = (
    "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. "
    "Все смешалось в доме Облонских."
)
SAMPLES = {
    RUSSIAN: "cp1251 koi8-r cp866 utf-16-le utf-16-be",
    "Реве та стогне Дніпр широкий, сердитий вітер завива, додолу верби гне високі": "cp1251 koi8-u",
    "Als Gregor Samsa eines Morgens aus unruhigen Träumen erwachte, fand er sich in seinem Bett zu "
    "einem ungeheueren Ungeziefer verwandelt. Er lag auf seinem panzerartig harten Rücken und sah, "
    "wenn er den Kopf ein wenig hob, seinen gewölbten Bauch": "cp1252 cp850 utf-16-le",
    "Longtemps, je me suis couché de bonne heure. Parfois, à peine ma bougie éteinte, mes yeux se "
    "fermaient si vite que je n’avais pas le temps de me dire : « Je m’endors. »": "cp1252",
    "En un lugar de la Mancha, de cuyo nombre no quiero acordarme, no ha mucho tiempo que vivía un "
    "hidalgo de los de lanza en astillero, rocín flaco y galgo corredor": "cp1252",
    "Litwo! Ojczyzno moja! ty jesteś jak zdrowie. Ile cię trzeba cenić, ten tylko się dowie, kto "
    "cię stracił. Dziś piękność twą w całej ozdobie widzę": "cp1250 iso8859-2 utf-16-le",
    "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv.": "cp1250 iso8859-2",
    "Minden emberi lény szabadon születik és egyenlő méltósága és joga van.": "cp1250",
    "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar.": "cp1254",
    "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια": "cp1253",
    "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם": "cp1255",
    "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق": "cp1256",
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어": "cp949 utf-16-le utf-16-be",
    "我冒了严寒，回到相隔二千余里，别了二十余年的故乡去。时候既然是深冬": "gb18030 utf-16-le",
    "我冒了嚴寒，回到相隔二千餘里，別了二十餘年的故鄉去。時候既然是深冬": "big5",
    "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。": "cp932 euc_jp utf-16-be",
}


def configured(path: Path | list[Path], **options: object) -> DataConfig:
    named = [str(one) for one in path] if isinstance(path, list) else str(path)
    return DataConfig.model_validate({"path": named, **options})


def prepared(path: Path | list[Path], **options: object) -> Corpus:
    data = configured(path, **options)
    return corpus.prepare(data, corpus.survey(data))


def decoded(encoded: Corpus) -> str:
    return encoded.vocabulary.decode(encoded.symbols.tolist())


def told_by(encoded: Corpus) -> Any:
    return encoded.vocabulary, encoded.symbols.tolist(), encoded.splits


def scored(path: Path, data: DataConfig | None = None) -> str:
    return "".join(map(str, pieces_of(str(path), ANY, data or DataConfig())))


def write(folder: Path, content: bytes, name: str = "text.txt") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def text_of(count: int, seed: int = 0, letters: str = MIXED) -> str:
    return "".join(random.Random(seed).choices(letters, k=count))


def cut_finely(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Read blocks and cut pieces of so few bytes that marks and characters straddle them."""
    monkeypatch.setattr(compressed, "BLOCK", block)
    monkeypatch.setattr(measuring, "PIECE", 4 * block)


# ---- byte order marks ---------------------------------------------------------------------------


@pytest.mark.parametrize("codec", MARKED)
@pytest.mark.parametrize("block", [1, 2, 3, 5, 1 << 20])
def test_a_text_with_a_byte_order_mark_is_read_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, block: int
) -> None:
    text = text_of(300)
    expected = told_by(prepared(write(tmp_path, text.encode())))
    cut_finely(monkeypatch, block)
    content = MARKED[codec] + text.encode(codec)
    for path in (
        write(tmp_path, content, "own.txt"),
        write(tmp_path, gzip.compress(content), "own.gz"),
    ):
        assert told_by(prepared(path)) == expected
        assert scored(path) == text


def test_a_byte_order_mark_is_stronger_than_the_encoding(tmp_path: Path) -> None:
    for codec, mark in MARKED.items():
        path = write(tmp_path, mark + RUSSIAN.encode(codec), f"{codec}.txt")
        data = configured(path, encoding="cp1251", split=ALL)
        assert (
            decoded(prepared(path, encoding="cp1251", split=ALL)) == scored(path, data) == RUSSIAN
        )


def test_files_of_different_encodings_make_one_text(tmp_path: Path) -> None:
    paths = [
        write(tmp_path, mark + f"{codec} é한\n".encode(codec), f"{codec}.txt")
        for codec, mark in MARKED.items()
    ]
    paths.append(write(tmp_path, "plain é\n".encode()))
    expected = "".join(f"{codec} é한\n" for codec in MARKED) + "plain é\n"
    assert decoded(prepared(paths, split=ALL)) == expected
    assert {*prepared(paths, split=ALL, records="files").vocabulary.code_points} == {
        *map(ord, expected)
    }


def test_a_byte_order_mark_on_stdin_is_no_character(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for codec, mark in MARKED.items():
        for read in (lambda: read_text("the prompt"), lambda: scored(Path("-"))):
            content = io.BytesIO(mark + "Hé".encode(codec))
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(content))
            assert read() == "Hé"
        labelled = "".join(f"{label}\tlabelled {label}\n" for label in "ab" * 30)
        path = write(tmp_path, mark + labelled.encode(codec))
        assert {label for label, _ in read_labelled(path)} == {"a", "b"}


def test_bytes_are_taken_as_they_are(tmp_path: Path) -> None:
    content = codecs.BOM_UTF16_LE + RUSSIAN.encode("utf-16-le")
    path = write(tmp_path, content)
    assert bytes(prepared(path, unit="byte", split=ALL).symbols.tolist()) == content
    assert b"".join(map(bytes, pieces_of(str(path), BYTES))) == content  # type: ignore[arg-type]


# ---- data.encoding ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "codec", ["cp1251", "utf-16-le", "utf-16", "gb18030", "euc_jp", "utf-32-be"]
)
@pytest.mark.parametrize(
    "options",
    [{}, {"records": "lines"}, {"records": "separator", "separator": " "}, {"normalize": "nfc"}],
)
def test_an_encoded_text_gives_the_symbols_of_the_same_text_in_utf8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, options: dict[str, object]
) -> None:
    text = text_of(3000, letters="あのにアイ \n" if codec == "euc_jp" else "абвгдж xyz\n")
    own = text.encode(codec).removeprefix(codecs.BOM_UTF16_LE)
    cut_finely(monkeypatch, 97)
    if not options:
        monkeypatch.setattr(workers, "ENOUGH", 0)  # several processes
    expected = told_by(prepared(write(tmp_path, text.encode()), **options))
    for path in (write(tmp_path, own, "own.txt"), write(tmp_path, gzip.compress(own), "own.gz")):
        assert told_by(prepared(path, encoding=codec, **options)) == expected
        assert scored(path, configured(path, encoding=codec)) == text


def test_an_encoded_text_that_has_grown_is_the_text_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_finely(monkeypatch, 101)
    content = codecs.BOM_UTF16_LE + text_of(4000).encode("utf-16-le")
    prepared(write(tmp_path, content))
    path = write(tmp_path, content + text_of(900, seed=1).encode("utf-16-le"))
    found = prepared(path)
    shutil.rmtree(cache_folder())
    assert (told_by(prepared(path)), prepared(path).fingerprint) == (
        told_by(found),
        found.fingerprint,
    )
    assert decoded(found) == text_of(4000) + text_of(900, seed=1)


def test_objects_are_read_in_their_encoding(tmp_path: Path) -> None:
    lines = "".join(f'{{"text": "строка {number}"}}\n' for number in range(60))
    path = write(tmp_path, lines.encode("cp1251"), "own.jsonl")
    options: dict[str, object] = {"field": "text", "encoding": "cp1251", "split": ALL}
    expected = "".join(f"строка {number}\n" for number in range(60))
    assert decoded(prepared(path, **options)) == expected
    given = pieces_of(str(path), ANY, configured(path, **options))
    assert "".join(f"{one}\n" for one in itertools.chain(*given)) == expected
    write(tmp_path, (lines + "{no JSON\n").encode("cp1251"), "own.jsonl")
    with pytest.raises(DataError, match="line 61 of"):
        prepared(path, **options)


def test_the_encoding_is_part_of_the_fingerprint_where_it_is_set(tmp_path: Path) -> None:
    path = write(tmp_path, text_of(100, letters="abc").encode())
    plain = prepared(path).fingerprint
    assert prepared(path, encoding="utf8").fingerprint == plain
    assert prepared(path, encoding="cp1251").fingerprint != plain
    one = prepared(path, encoding="windows-1251").fingerprint
    assert one == prepared(path, encoding="cp1251").fingerprint


@pytest.mark.parametrize(
    "name",
    [
        "rot13",
        "base64",
        "hex",
        "zlib",
        "idna",
        "unicode_escape",
        "mbcs",
        "utf-7",
        "x",
        "a\0b",
    ],
)
def test_a_codec_that_is_none_of_texts_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="is no encoding of texts"):
        DataConfig(encoding=name)


def test_a_codec_with_a_slip_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(ValidationError, match="did you mean 'cp1251'"):
        DataConfig(encoding="cp12511")


def test_an_encoding_of_bytes_is_refused() -> None:
    with pytest.raises(ValidationError, match="no encoding"):
        DataConfig(unit="byte", encoding="cp1251")


def test_no_codec_yields_what_utf8_cannot_hold() -> None:
    """Halves of surrogate pairs would end the encoding with a traceback."""
    noise = np.random.default_rng(0).integers(0, 256, 200_000).astype(np.uint8).tobytes()
    for name in {codec for codecs_ in SAMPLES.values() for codec in codecs_.split()} | {
        *("utf-32-le", "hz", "iso2022_jp", "euc_jis_2004", "big5hkscs", "johab"),
    }:
        codecs.getincrementaldecoder(name)("replace").decode(noise).encode()


# ---- what cannot be read ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "codec"),
    [(text, codec) for text, codecs_ in SAMPLES.items() for codec in codecs_.split()],
)
def test_the_likeliest_codec_is_the_one_that_a_text_is_in(text: str, codec: str) -> None:
    for part in (text, text[:40]):
        content = part.encode(codec, "ignore")
        first, second = likeliest(content)
        if content.decode("ascii", "ignore") == part:
            continue  # nothing beyond ASCII is in it
        if part == text or codec not in ("cp850", "iso8859-2"):
            assert first.text == part
        assert second.text != first.text


@pytest.mark.parametrize("name", ["own.txt", "own.gz"])
def test_a_text_that_is_no_utf8_is_refused_with_what_it_could_be(tmp_path: Path, name: str) -> None:
    content = ("Chapter 1\n" + RUSSIAN).encode("cp1251")
    path = write(tmp_path, gzip.compress(content) if name.endswith("gz") else content, name)
    for read, option in ((prepared, "--set data.encoding=cp1251"), (scored, "--encoding cp1251")):
        with pytest.raises(DataError, match="is not UTF-8 at byte 10") as refused:
            read(path)
        first, second = refused.value.details
        assert first == 'cp1251: "Все счастливые семьи похожи дру…"'
        assert not second.startswith("cp1251")
        assert refused.value.advice.endswith(option)


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", [RUSSIAN, "Call me Ishmael. Some years ago", "Le café était là"])
def test_utf16_and_utf32_without_a_mark_are_refused_by_name(
    tmp_path: Path, codec: str, text: str
) -> None:
    path = write(tmp_path, text.encode(codec))
    for read in (prepared, scored):
        with pytest.raises(DataError, match="without a byte order mark") as refused:
            read(path)
        assert refused.value.details[0].startswith(f'{codec}: "')
        assert refused.value.advice.endswith(f"encoding={codec}" if read is prepared else codec)
    assert decoded(prepared(path, encoding=codec, split=ALL)) == text


def test_text_with_other_control_characters_is_no_utf16() -> None:
    for content in (
        b"one\0two\0three\0four\0" * 20,
        b"ab\0c\0" * 90,
        b"\0" * 400,
    ):
        assert not wide_codec(content)


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (codecs.BOM_UTF16_LE + "abcd".encode("utf-16-le")[:-1], "", "not utf-16-le at byte 8"),
        (codecs.BOM_UTF16_LE + b"a\0\0\xd8", "", "not utf-16-le at byte 4"),
        (codecs.BOM_UTF16_LE + b"a\0\0\xd8b\0", "", "not utf-16-le at byte 4"),
        (codecs.BOM_UTF32_BE + b"\0\0\0a\0\x11\0\0", "", "not utf-32-be at byte 8"),
        (
            "абв".encode("cp949", "ignore") + "가나".encode("cp949")[:-1],
            "cp949",
            "not cp949 at byte",
        ),
        (b"abc\x98def", "cp1251", "not cp1251 at byte 3"),
        ("naïve".encode() + b"\xe9t\xe9", "", "not UTF-8 at byte 6"),
        ("naïve".encode() + b"\xe2\x98", "", "not UTF-8 at byte 6"),
    ],
)
@pytest.mark.parametrize("block", [1, 2, 3, 1 << 20])
def test_damage_is_placed_whatever_the_blocks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    encoding: str,
    message: str,
    block: int,
) -> None:
    cut_finely(monkeypatch, block)
    path = write(tmp_path, content)
    for read in (
        lambda: prepared(path, encoding=encoding, split=ALL),
        lambda: scored(path, configured(path, encoding=encoding)),
    ):
        with pytest.raises(DataError, match=message):
            read()


def test_utf8_with_a_damaged_place_is_not_taken_for_another_encoding(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        prepared(write(tmp_path, RUSSIAN.encode() + b"\xff" + RUSSIAN.encode()))
    assert "the text before is UTF-8" in refused.value.advice
    assert not refused.value.details


def test_bytes_that_are_no_text_suggest_no_encoding(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8).tobytes()
    with pytest.raises(DataError) as refused:
        prepared(write(tmp_path, noise))
    assert "data.unit=byte" in refused.value.advice
    assert not refused.value.details


def test_no_message_advises_a_program_that_cannot_help() -> None:
    package = Path(decoding.__file__).parents[2]
    assert not [path for path in package.rglob("*.py") if "iconv" in path.read_text("utf-8")]
