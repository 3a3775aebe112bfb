"""Chunks of a text: where one may begin, and that a file is what was measured."""

import unicodedata
from pathlib import Path

import pytest

from charlm.common.errors import DataError
from charlm.config.schema import DataConfig
from charlm.text import corpus
from charlm.text.encode import chunks
from charlm.text.files import measuring


@pytest.mark.parametrize("start", ["b", "\ufeffb", "\u0301b", "\ufeff\u0301b"])
@pytest.mark.parametrize("normalize", ["nfc", "none"])
def test_file_that_may_combine_with_the_one_before_is_in_its_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str, normalize: str
) -> None:
    monkeypatch.setattr(measuring, "PIECE", 8)
    texts = ["aaaaaae", f"{start}bbbbbb", ""]
    paths = [tmp_path / f"{number}.txt" for number in range(3)]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text, encoding="utf-8")
    named = [str(path) for path in paths]
    data = DataConfig.model_validate(
        {"path": named, "normalize": normalize, "split": [1.0, 0.0, 0.0]}
    )
    survey = corpus.survey(data)
    files = [[file.name for file, _ in chunk.pieces] for chunk in chunks.plan(survey, data)]
    combines = "\u0301" in start and normalize == "nfc"
    assert (files[0] == ["0.txt"]) != combines
    encoded = corpus.prepare(data, survey)
    whole = "".join(texts).replace("\ufeff", "")
    expected = unicodedata.normalize("NFC", whole) if normalize == "nfc" else whole
    assert encoded.vocabulary.decode(encoded.symbols.tolist()) == expected


def test_rows_that_change_while_they_are_read_are_refused(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    data = DataConfig(path=str(path), field="text", split=[1.0, 0.0, 0.0])
    parquet.write_table(pyarrow.table({"text": ["one", "two"]}), path)
    text = corpus.survey(data)
    parquet.write_table(pyarrow.table({"text": ["one", "owt"]}), path)
    with pytest.raises(DataError) as caught:
        corpus.prepare(data, text)
    assert caught.value.what == f"{path} has changed while it was being read"
    encoded = corpus.prepare(data, corpus.survey(data))
    assert encoded.vocabulary.decode(encoded.symbols.tolist()) == "one\nowt\n"
