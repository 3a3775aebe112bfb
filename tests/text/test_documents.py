"""Files that are no plain text: named as what they are, with a way to text that works; and texts
that are read as they are, with a remark on what may not have been meant."""

import codecs
import itertools
import json
import logging
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from charlm.common.errors import DataError
from charlm.config.schema import DataConfig
from charlm.evaluation.scoring import pieces_of
from charlm.terminal import console
from charlm.text import corpus
from charlm.text.remarks import remarks
from charlm.text.vocabulary import Vocabulary

ANY = Vocabulary("char", "none", (97,), has_unknown=True)
TEXT = "One line of text.\nAnd another, for the model to learn from.\n"


def write(folder: Path, content: bytes | str, name: str = "text.txt") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def packed(path: Path, members: dict[str, str]) -> bytes:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path.read_bytes()


def zipped(folder: Path, kind: str) -> bytes:
    """Make a small document of a kind that is a zip file, as its programs write it."""
    paragraphs = ["Fish &amp; chips", "한글 é"]
    word = "".join(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>" for text in paragraphs)
    writer = "".join(f"<text:p>{text}</text:p>" for text in paragraphs)
    page = "".join(f"<p>{text}</p>" for text in paragraphs)
    odt = "application/vnd.oasis.opendocument.text"
    return packed(
        folder / "made",
        {
            "docx": {"[Content_Types].xml": "<x/>", "word/document.xml": f"<?xml?>{word}"},
            "odt": {"mimetype": odt, "content.xml": writer},
            "epub": {"mimetype": "application/epub+zip", "a.xhtml": page, "style.css": "p {}"},
            "zip": {"a.txt": "text"},
        }[kind],
    )


REFUSED = {
    "docx": "a Word document",
    "odt": "an OpenDocument text",
    "epub": "an EPUB book",
    "zip": "a zip archive",
}
STARTS = {
    b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n": ("a PDF document", "pdftotext"),
    b"{\\rtf1\\ansi hello}": ("an RTF document", "plain text"),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99): ("an old Microsoft Office", "plain text"),
    bytes(60) + b"BOOKMOBI": ("a Kindle book", "ebook-convert"),
    b"7z\xbc\xaf\x27\x1c\0": ("an archive", "unpack"),
    bytes(257) + b"ustar\0": ("a tar archive", "tar -xf"),
    b"BZh91AY&SY\0": ("compressed by bzip2", "bunzip2"),
    b"\x1f\x8b\x08\0": ("a compressed file", "end in .gz"),
    b"\xfd7zXZ\0": ("a compressed file", "end in .xz"),
    b"SQLite format 3\0": ("SQLite", "export"),
    b"PAR1\x15\x04": ("a Parquet table", "data.field"),
    b"\x89PNG\r\n\x1a\n": ("a picture", "data.unit=byte"),
    b"\x7fELF\x02": ("a program", "data.unit=byte"),
}


def readings(path: Path) -> Iterator[DataError]:
    """Have a text refused by training and by scoring."""
    for read in (
        lambda: corpus.survey(DataConfig(path=str(path))),
        lambda: [*pieces_of(str(path), ANY, DataConfig())],
    ):
        with pytest.raises(DataError) as refused:
            read()
        yield refused.value


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("is_renamed", [False, True])
def test_a_zipped_document_is_refused_with_a_way_that_works(
    tmp_path: Path, kind: str, is_renamed: bool
) -> None:
    path = write(tmp_path, zipped(tmp_path, kind), "a b.txt" if is_renamed else f"a b.{kind}")
    for refused in readings(path):
        assert f"is {REFUSED[kind]}" in refused.what
        if kind == "zip":
            assert "unpack" in refused.advice
            continue
        command = shlex.split(refused.advice[refused.advice.index("python -c") :])
        subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True)
        lines = (tmp_path / "text.txt").read_text(encoding="utf-8").split("\n")
        assert lines == ["Fish & chips", "한글 é", ""]


@pytest.mark.parametrize("start", STARTS)
def test_a_document_is_known_by_its_first_bytes(tmp_path: Path, start: bytes) -> None:
    what, way = STARTS[start]
    for refused in readings(write(tmp_path, start + b"x" * 500)):
        assert what in refused.what
        assert way in refused.advice


def test_a_pdf_document_may_begin_with_other_bytes(tmp_path: Path) -> None:
    for refused in readings(write(tmp_path, b"\r\n\n%PDF-1.4\n" + b"x" * 500, "a.pdf")):
        assert "is a PDF document" in refused.what


def test_a_folder_is_read_without_its_documents(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for kind in REFUSED:
        write(folder, zipped(tmp_path, kind), f"a.{kind}")
    write(folder, b"{\\rtf1\\ansi hello}", "b.txt")
    write(folder, b"%PDF-1.5\n" + b"x" * 9000, "c")
    write(folder, TEXT.encode("utf-16-le"), "d.txt")
    write(folder, codecs.BOM_UTF16_BE + f"1{TEXT}".encode("utf-16-be"), "e.txt")
    write(folder, f"2{TEXT}", "f.srt")
    write(folder, f"<html>{TEXT}</html>", "g.html")
    data = DataConfig(path=str(folder), order="natural")
    stats = corpus.survey(data)
    assert [file.name for file in stats.files] == ["e.txt", "f.srt", "g.html"]
    reasons = {one.path.name: one.reason for one in stats.found.left_out}
    assert {*REFUSED.values()} < {*reasons.values()}
    assert reasons["b.txt"] == "an RTF document"
    assert reasons["c"] == "a PDF document"
    assert reasons["d.txt"] == "utf-16-le, without a byte order mark"
    encoded = corpus.prepare(data, stats)
    assert f"1{TEXT}2{TEXT}" in encoded.vocabulary.decode(encoded.symbols.tolist())


def test_bytes_of_a_document_can_be_learned(tmp_path: Path) -> None:
    path = write(tmp_path, b"%PDF-1.5\n" + bytes(range(256)) * 9)
    assert corpus.survey(DataConfig(path=str(path), unit="byte")).size == 9 + 9 * 256


def test_a_name_that_steers_a_shell_is_not_in_a_command(tmp_path: Path) -> None:
    path = write(tmp_path, zipped(tmp_path, "docx"), 'a";$(touch made-by-shell).docx')
    for refused in readings(path):
        assert "$(" not in refused.advice
        assert "'FILE'" in refused.advice


@pytest.mark.parametrize(
    "content",
    [
        "1\n00:00:01,000 --> 00:00:02,000\nHello.\n\n" * 9,
        "WEBVTT\n\n00:01.000 --> 00:04.000\nHello.\n" * 9,
        "[12:30, 1.5.2020] Anna: hi \U0001f600\n" * 9,
        "ID3 tags are in files of music.\nRIFF raff\nPAR1\nMZ\n%PDF is not PDF\n" * 9,
        "PK is not a zip\n<p>no page</p>\n{}\n" * 9,
        "X:1\nT:Tune\nK:D\nABc|\n" * 9,
    ],
)
def test_other_formats_of_text_are_read_as_they_are(tmp_path: Path, content: str) -> None:
    path = write(tmp_path, content)
    assert corpus.survey(DataConfig(path=str(path))).characters == len(content)
    assert not remarks([path], DataConfig())
    assert "".join(map(str, pieces_of(str(path), ANY))) == content


NOTEBOOK = json.dumps({"cells": [{"cell_type": "markdown", "source": [TEXT]}], "nbformat": 4})
WINDOWS = TEXT.replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (f"<!DOCTYPE html>\n<html>{TEXT}</html>", {}, "is a web page, read as it is"),
        (f"\ufeff<HTML lang=en>{TEXT}</html>", {}, "is a web page, read as it is"),
        (f'<?xml version="1.0"?>\n<FictionBook>{TEXT}', {}, "is an FB2 book, read as it is"),
        (NOTEBOOK, {}, "is a Jupyter notebook, read as it is"),
        ("one\0two\0three\0", {}, "has NUL bytes, 3 in its first 14 characters"),
        (WINDOWS, {}, "has the line ends of Windows"),
        (codecs.BOM_UTF16_BE + WINDOWS.encode("utf-16-be"), {}, "has the line ends of Windows"),
        (WINDOWS, {"records": "separator", "separator": "\n"}, 'a "\\r" stays'),
        (TEXT.replace("\n", "\r"), {}, "the line ends of the old Mac"),
        (TEXT + "é", {"encoding": "cp1252"}, "is valid UTF-8"),
    ],
)
def test_what_may_not_be_meant_is_remarked_once(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    content: bytes | str,
    options: dict[str, str],
    said: str,
) -> None:
    paths = [str(write(tmp_path, content, name)) for name in ("a.txt", "b.txt")]
    corpus.survey(DataConfig.model_validate({"path": paths, **options}))
    (record,) = caplog.records
    assert said in record.message
    assert paths[0] in record.message


def test_a_text_that_is_refused_is_not_remarked_on(tmp_path: Path) -> None:
    path = write(tmp_path, (WINDOWS + "naïve café\0").encode("cp1252"))
    assert not remarks([path], DataConfig(path=str(path)))
    assert len(remarks([path], DataConfig(path=str(path), encoding="cp1252"))) == 2


def test_objects_read_as_text_are_remarked_with_the_key_that_reads_a_field(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps({"text": TEXT}), "a.jsonl")
    (remark,) = remarks([path], DataConfig(path=str(path)))
    assert remark == f"{path} is read as it is; --set data.field=NAME reads a field of each line"
    assert not remarks([path], DataConfig(path=str(path), field="text"))


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (TEXT, {}),
        (WINDOWS, {"records": "lines"}),
        (WINDOWS, {"records": "separator", "separator": "\n\n"}),
        (TEXT.replace("\n", "\r"), {"records": "lines"}),
        (WINDOWS, {"unit": "byte"}),
        ("\ufeff" + TEXT, {"encoding": "cp1252"}),
        (TEXT.encode("cp1252") + b"\xe9", {"encoding": "cp1252"}),
    ],
)
def test_nothing_is_remarked_where_nothing_is_lost(
    tmp_path: Path, content: bytes | str, options: dict[str, str]
) -> None:
    path = write(tmp_path, content)
    assert not remarks([path], DataConfig.model_validate({"path": str(path), **options}))


@pytest.mark.parametrize("codec", ["utf-8", "utf-16", "cp1251"])
def test_line_ends_are_mended_by_the_command_that_is_named(tmp_path: Path, codec: str) -> None:
    text = "Все счастливые семьи\r\nпохожи\r\n"
    path = write(tmp_path, text.encode(codec), "own.txt")
    data = DataConfig(path=str(path), encoding="cp1251" if codec == "cp1251" else "")
    (remark,) = remarks([path], data)
    command = shlex.split(remark[remark.index("python -c") :])
    subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True)
    assert (tmp_path / "text.txt").read_bytes().decode() == text.replace("\r\n", "\n")


def test_a_score_in_the_wrong_encoding_is_remarked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, "é" + TEXT)
    itertools.chain(*pieces_of(str(path), ANY, DataConfig(encoding="cp1252")))
    assert "--encoding utf-8" in caplog.text
    assert "Ã©" in caplog.text


def test_a_warning_is_printed_once_however_often_a_text_is_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.show_log(quiet=True)
    log = logging.getLogger("charlm")
    for _ in range(3):
        log.warning("the text is so")
    assert capsys.readouterr().err.count("the text is so") == 1
    console.show_log(quiet=True, warns=False)  # as all processes but the first
    log.warning("the text is so")
    assert not capsys.readouterr().err
    log.handlers = []
    log.setLevel(logging.NOTSET)
