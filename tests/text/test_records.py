"""Records: what is one, which split it is in, and how it is encoded."""

import gzip
import hashlib
import itertools
import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from charlm.common.errors import DataError
from charlm.config.schema import DataConfig
from charlm.evaluation.scoring import pieces_of
from charlm.text import corpus
from charlm.text.corpus import Corpus
from charlm.text.encode import chunks
from charlm.text.files import compressed, measuring
from charlm.text.records import in_stream, records_in
from charlm.text.splits import SPLITS

ALL = [1.0, 0.0, 0.0]


def prepared(path: Path | list[Path], **options: object) -> Corpus:
    named = [str(p) for p in path] if isinstance(path, list) else str(path)
    data = DataConfig.model_validate({"path": named, "records": "lines", **options})
    return corpus.prepare(data, corpus.survey(data))


def write(folder: Path, content: str | bytes, name: str = "text.txt") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def records_of(encoded: Corpus, name: str = "train") -> list[str]:
    """The records of a split, decoded one by one."""
    split, vocabulary = encoded.splits[name], encoded.vocabulary
    found: list[str] = []
    held: list[int] = []
    symbols = encoded.symbols[split.start : split.stop].tolist()
    for index in symbols[1:] if name == "train" else symbols:
        if index == vocabulary.end:
            found.append(vocabulary.decode(held))
            held = []
        else:
            held.append(index)
    assert not held  # every split ends with the end of a record
    return found


def names(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices("abcdefgh", k=rng.randint(2, 9))) for _ in range(count)]


@pytest.mark.parametrize("unit", ["char", "byte", "jamo"])
def test_every_record_is_in_one_split_between_two_ends(tmp_path: Path, unit: str) -> None:
    lines = names(400) + [f"{name}한e\u0301é" for name in names(100, seed=1)]
    encoded = prepared(write(tmp_path, "\n".join(lines)), unit=unit, split=[0.8, 0.1, 0.1])
    found = {name: records_of(encoded, name) for name in SPLITS}
    assert not any(split.unknown for split in encoded.splits.values())
    expected = [encoded.vocabulary.normalized(line) for line in lines]
    assert sorted(record for split in found.values() for record in split) == sorted(expected)
    assert not set(found["train"]) & {*found["validation"], *found["test"]}
    assert encoded.symbols[0] == encoded.vocabulary.end == len(encoded.vocabulary) - 1
    assert all(len(found[name]) > 10 for name in SPLITS)


def test_splits_do_not_depend_on_the_order_and_a_grown_text_keeps_them(tmp_path: Path) -> None:
    lines = names(300)
    first = prepared(write(tmp_path, "\n".join(lines)))
    grown = prepared(write(tmp_path, "\n".join([*names(200, seed=1), *sorted(lines)])))
    for name in SPLITS:
        assert set(records_of(first, name)) <= set(records_of(grown, name))


def test_a_sorted_list_is_mixed_in_a_fixed_way(tmp_path: Path) -> None:
    lines = sorted({*names(300)})
    found = records_of(prepared(write(tmp_path, "\n".join(lines)), split=ALL))
    assert found != lines
    assert sorted(found) == lines
    assert found == sorted(lines, key=lambda x: hashlib.blake2b(x.encode(), digest_size=8).digest())


def test_duplicates_are_mixed_too(tmp_path: Path) -> None:
    lines = [*names(100), *["again"] * 50]
    found = records_of(prepared(write(tmp_path, "\n".join(lines)), split=ALL))
    assert sorted(found) == sorted(lines)
    assert sum(one == other == "again" for one, other in itertools.pairwise(found)) < 25


@pytest.mark.parametrize(
    ("unit", "normalize"), [("char", "nfc"), ("char", "nfd"), ("jamo", "none")]
)
def test_twins_in_other_normal_forms_are_in_one_split(
    tmp_path: Path, unit: str, normalize: str
) -> None:
    lines = [f"{name}é한" for name in names(300)]
    twins = [unicodedata.normalize("NFD", line) for line in lines]
    path = write(tmp_path, "\n".join([*lines, *twins]))
    encoded = prepared(path, unit=unit, normalize=normalize, split=[0.6, 0.2, 0.2])
    found = [set(records_of(encoded, name)) for name in SPLITS]
    assert sum(map(len, found)) == len(set.union(*found)) == len(set(lines))


def test_line_ends_of_both_kinds_are_none_of_the_text_and_empty_lines_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoded = prepared(write(tmp_path, "one\r\n\r\ntwo\n\n\nth\rree"), split=ALL)
    assert sorted(records_of(encoded)) == ["one", "th\rree", "two"]
    assert caplog.text.count("3 empty records are left out") == 1
    assert encoded.train.characters == encoded.train.bytes == 3 + 3 + 6 + 3


def test_files_are_records_and_their_ends_no_characters(tmp_path: Path) -> None:
    paths = [write(tmp_path, text, f"{n}.txt") for n, text in enumerate(["a\nb\n", "é", "", "cd"])]
    encoded = prepared(paths, records="files", split=ALL)
    assert sorted(records_of(encoded)) == ["a\nb\n", "cd", "é"]
    assert (encoded.train.characters, encoded.train.bytes) == (7, 8)
    assert len(encoded.train) == 7 + 3 + 1


@pytest.mark.parametrize("unit", ["char", "byte"])
def test_separators_are_taken_away_and_newlines_around_them_stay(tmp_path: Path, unit: str) -> None:
    path = write(tmp_path, "one\n§§\ntwo§§§three")
    encoded = prepared(path, records="separator", separator="§§", split=ALL, unit=unit)
    assert sorted(records_of(encoded)) == ["\ntwo", "one\n", "§three"]
    with_newlines = {"records": "separator", "separator": "\n§§\n", "split": ALL}
    assert sorted(records_of(prepared(path, **with_newlines))) == ["one", "two§§§three"]


def test_a_separator_that_never_occurs_is_refused_before_the_text_is_taken_as_one_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "read_piece", lambda *_: pytest.fail("read"))
    with pytest.raises(DataError, match="'%' does not occur in the text"):
        prepared(write(tmp_path, "one two three"), records="separator", separator="%", split=ALL)


def test_separator_with_a_backslash_is_said_to_need_quotes(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        prepared(write(tmp_path, "one\n\ntwo"), records="separator", separator=r"\n\n")
    assert caught.value.what == r"the separator '\\n\\n' does not occur in the text"
    assert r"""--set 'data.separator="\n\n"'""" in caught.value.advice


@pytest.mark.parametrize(
    "options",
    [
        {"records": "lines"},
        {"records": "files"},
        {"records": "separator", "separator": "aa"},
        {"records": "separator", "separator": "\n\n"},
        {"records": "separator", "separator": "\na\n"},
        {"records": "separator", "separator": "\r\n\n"},
    ],
)
def test_a_stream_has_the_records_of_the_whole(options: dict[str, str]) -> None:
    data, draw = DataConfig.model_validate(options), random.Random(0)
    for _ in range(500):
        parts = ["a", "a", "é", "b", "\n", "\n", "\r", "\r\n", "\r\n\r\n"]
        whole = "".join(draw.choices(parts, k=draw.randint(0, 30)))
        cuts = sorted(draw.choices(range(len(whole) + 1), k=draw.randint(0, 6)))
        pieces = [whole[a:b] for a, b in itertools.pairwise([0, *cuts, len(whole)])]
        expected = [record for record in records_in(whole, data) if record]
        assert list(itertools.chain(*in_stream(pieces, data))) == expected
        as_bytes = itertools.chain(*in_stream([piece.encode() for piece in pieces], data))
        assert list(as_bytes) == [record.encode() for record in expected]


@pytest.mark.parametrize("block", [1, 2, 3, 5, 1 << 20])
@pytest.mark.parametrize("separator", ["aa", "\n", "<|end|>", "é\u0301"])
def test_records_and_separators_may_straddle_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, separator: str
) -> None:
    monkeypatch.setattr(compressed, "BLOCK", block)
    monkeypatch.setattr(measuring, "PIECE", 2 * block)
    rng = random.Random(block)
    parts = ["".join(rng.choices("abé\u0301<|e", k=rng.randint(0, 9))) for _ in range(60)]
    text = separator.join([*parts, "x"])
    options = {"records": "separator", "separator": separator, "split": ALL}
    found = records_of(prepared(write(tmp_path, text), **options))
    assert sorted(found) == sorted(filter(None, text.split(separator)))


@pytest.mark.parametrize("block", [1, 2, 3, 5, 1 << 20])
@pytest.mark.parametrize("separator", ["\n\n", "\n%\n", "%\n", "\n\n\n"])
def test_a_separator_matches_the_line_ends_of_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, separator: str
) -> None:
    monkeypatch.setattr(compressed, "BLOCK", block)
    monkeypatch.setattr(measuring, "PIECE", 2 * block)
    parts = [*dict.fromkeys(name.replace("a", "a\n") + "b" for name in names(20)), "x"]
    text = separator.join(parts)
    options = {"records": "separator", "separator": separator, "split": ALL}
    data = DataConfig.model_validate(options)
    for unit in ("char", "byte"):
        found = records_of(prepared(write(tmp_path, text), unit=unit, **options))
        windows = records_of(
            prepared(write(tmp_path, text.replace("\n", "\r\n")), unit=unit, **options)
        )
        assert sorted(found) == sorted(parts)
        assert sorted(one.replace("\r\n", "\n") for one in windows) == sorted(parts)
    pieces = pieces_of(
        str(tmp_path / "text.txt"), prepared(tmp_path / "text.txt", split=ALL).vocabulary, data
    )
    streamed = [one for records in in_stream(pieces, data) for one in records]
    assert [one.replace("\r\n", "\n") for one in streamed] == parts


def test_separators_of_both_line_ends_mark_the_fingerprint(tmp_path: Path) -> None:
    """An earlier version cut such a text at one kind of them only."""
    options = {"records": "separator", "separator": "\n\n", "split": ALL}
    for text, is_marked in (
        ("a\n\nb\r\n\r\nc", True),
        ("a\n\nb\n\nc", False),
        ("a\r\nb\n\nc\r\n", False),
    ):
        data = DataConfig.model_validate({"path": str(write(tmp_path, text)), **options})
        stats = corpus.survey(data)
        assert any(one.varied for one in stats.measured.values()) == is_marked
        plain = [corpus.FORMAT, stats.digest, corpus._options(data)]
        key = json.dumps(plain, sort_keys=True).encode()
        before = hashlib.sha256(key).hexdigest()
        assert (corpus.prepare(data, stats).fingerprint == before) != is_marked


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("options", "ends"),
    [({"records": "lines"}, 1), ({"records": "separator", "separator": "\n\n"}, 2)],
)
def test_lines_that_end_as_on_the_old_mac_are_lines(
    tmp_path: Path, options: dict[str, Any], ends: int, suffix: str
) -> None:
    lines = [*dict.fromkeys(names(200))]
    for text, codec in itertools.product(("\r", "\r\n", "\n"), ("utf-8", "utf-16")):
        content = (ends * text).join(lines).encode(codec)
        path = write(tmp_path, gzip.compress(content) if suffix else content, f"list.txt{suffix}")
        encoded = prepared(path, split=ALL, **options)
        assert sorted(records_of(encoded)) == sorted(lines)
        data = DataConfig.model_validate(options)
        streamed = in_stream(pieces_of(str(path), encoded.vocabulary, data), data)
        assert [*itertools.chain(*streamed)] == lines


def test_records_longer_than_a_block_of_a_megabyte_are_whole(tmp_path: Path) -> None:
    long = ["x" * 1_500_000 + "é", "y" * (1 << 20), "z"]
    for options in ({}, {"records": "separator", "separator": "\n"}):
        assert (
            sorted(records_of(prepared(write(tmp_path, "\n".join(long)), split=ALL, **options)))
            == long
        )


def test_train_is_mixed_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = sorted({*names(300)})
    monkeypatch.setattr(compressed, "BLOCK", 100)
    monkeypatch.setattr(measuring, "PIECE", 100)
    found = records_of(prepared(write(tmp_path, "\n".join(lines)), split=ALL))
    assert found != lines
    assert sorted(found) == lines
    assert all(abs(found.index(line) - at) < 60 for at, line in enumerate(lines))


def test_a_split_that_no_record_falls_into_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of the 2 lines falls into the validation split"):
        prepared(write(tmp_path, "anna\nbob"), split=[0.9, 0.1, 0.0])
    with pytest.raises(DataError, match="all 3 lines are alike, so the train split is empty"):
        prepared(write(tmp_path, "one\none\none"), split=[0.01, 0.99, 0.0])


def test_held_out_limit_moves_records_to_the_train_split_only(tmp_path: Path) -> None:
    path = write(tmp_path, "\n".join(names(2000)))
    free = prepared(path, split=[0.6, 0.2, 0.2])
    limited = prepared(path, split=[0.6, 0.2, 0.2], held_out_limit=600)
    for name in SPLITS[1:]:
        assert 300 < limited.splits[name].characters < 900
        assert set(records_of(limited, name)) < set(records_of(free, name))


def test_minimum_count_and_unknown_characters_of_records(tmp_path: Path) -> None:
    encoded = prepared(write(tmp_path, "abab\nbabac\nab"), split=ALL, minimum_count=2)
    assert encoded.train.unknown == {"c": 1}
    assert encoded.vocabulary.unknown == 2
    assert encoded.vocabulary.end == 3
    without = prepared(write(tmp_path, "\n".join(names(99)) + "\nxzy"), unknown=False)
    assert without.splits["validation"].unknown == {"x": 1, "y": 1, "z": 1}  # where its hash is


@pytest.mark.parametrize("normalize", ["none", "nfc", "nfd"])
@pytest.mark.parametrize("unit", ["char", "jamo"])
def test_records_are_normalized_one_by_one(tmp_path: Path, unit: str, normalize: str) -> None:
    lines = ["e", "\u0301a", "\u1112", "\u1161\u11ab", "café"]  # would join across records
    encoded = prepared(write(tmp_path, "\n".join(lines)), unit=unit, normalize=normalize, split=ALL)
    assert sorted(records_of(encoded)) == sorted(map(encoded.vocabulary.normalized, lines))
    forms = [
        lines,
        [unicodedata.normalize("NFD" if normalize == "nfd" else "NFC", x) for x in lines],
    ]
    sizes = [sum(len(x) + 1 for x in form) for form in forms]
    assert encoded.train.characters == (
        sizes[0] if (unit, normalize) == ("char", "none") else min(sizes)
    )


def test_keys_that_do_not_belong_together_are_refused() -> None:
    for wrong in (
        {"records": "separator"},
        {"separator": "x"},
        {"records": "files", "field": "text"},
    ):
        with pytest.raises(ValidationError):
            DataConfig.model_validate(wrong)


def test_new_keys_at_their_defaults_change_no_fingerprint(tmp_path: Path) -> None:
    path = write(tmp_path, "abcdefgh" * 10)
    found = prepared(path, records="none", split=[0.5, 0.25, 0.25]).fingerprint
    assert found == "41267c1a226fd85ebaaf2d1208b0fa5d67741a9b11ada09f9167ceebf06c2f15"
