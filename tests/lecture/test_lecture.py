"""The lecture: every claim measured, in both languages, on a page that needs nothing else."""

import html
import json
import re
import string
import sysconfig
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from browser import Tags, browse, needs_browser
from conftest import Command
from conftest import words as some_words

from charlm.common.errors import DataError
from charlm.lecture import lab as laboratory
from charlm.lecture import page as lecture_page
from charlm.lecture import tracking, usage
from charlm.lecture.chapter import PACKAGE
from charlm.lecture.lab import Lab
from charlm.lecture.page import CHAPTERS, chapters
from charlm.reports import view as pages
from charlm.reports.words import LANGUAGES, Words
from charlm.text.files.tasks import TIMES


def catalogue(language: str) -> dict[str, Any]:
    source = files("charlm.lecture").joinpath("words", f"{language}.toml")
    return tomllib.loads(source.read_text("utf-8"))


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_languages_say_the_same() -> None:
    english, korean = (catalogue(language) for language in LANGUAGES)
    assert {key: set(own) for key, own in english.items()} == {
        key: set(own) for key, own in korean.items()
    }
    for key, own in english.items():
        for name, text in own.items():
            one, other = (
                " ".join(found) if isinstance(found, list) else found
                for found in (text, korean[key][name])
            )
            assert fields(one) == fields(other), (key, name)
            assert one.count(" | ") == other.count(" | "), (key, name)


FEW = (
    *((laboratory, "STEPS", 40), (laboratory, "SHORT", 10), (laboratory, "WIDTH", 32)),
    (tracking, "STEPS", 20),
)
"""Settings of the lecture with which it takes seconds."""


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory, kernels_folder: Path) -> Any:
    """All chapters, from models that have hardly been trained."""
    from conftest import new_cache

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARLM_CACHE", new_cache(tmp_path_factory, kernels_folder))
        for module, name, few in FEW:
            patch.setattr(module, name, few)
        path = tmp_path_factory.mktemp("lecture") / "words.txt"
        path.write_text(some_words(12_000), encoding="utf-8")
        lab, english = Lab(str(path)), Words("en", PACKAGE)
        return lab, {chapter.key: chapter for chapter in chapters(lab, english)}


ALWAYS = [
    "same_function",
    "hello",
    "vanishing_toy",
    "gates",
    "keep_or_erase",
    "addition",
    "two_forms",
    "one_three_four",
    "output_and_last",
    "packing",
]
"""Chapters that hold of the equations, however little was trained."""


def test_claims_about_the_equations_hold(measured: Any) -> None:
    _, found = measured
    assert len(found) == len(CHAPTERS)
    assert {key for key in ALWAYS if found[key].holds is not True} == set()
    assert found["one_three_four"].values["lstm"] == 4
    assert found["hello"].values["after"] == 4


def test_command_writes_the_page_and_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    for module, name, few in FEW:
        monkeypatch.setattr(module, name, few)
    monkeypatch.chdir(tmp_path)
    Path("words.txt").write_text(some_words(12_000), encoding="utf-8")
    options = ("--data", "words.txt", "--language", "ko", "--threads", "1")
    done = command("lecture", *options, "--out", "mine")
    assert done.returncode == 0, done.stderr
    page = Path("mine/lecture.html").read_text(encoding="utf-8")
    assert '<html lang="ko"' in page
    assert "charlm lecture --data words.txt --language ko" in page
    assert done.stdout.count("\u2713 ") + done.stdout.count("\u2717 ") >= len(ALWAYS)
    assert "mine/lecture.html" in done.stdout + done.stderr


@pytest.mark.parametrize("option", ["--json", "--quiet"])
def test_command_reads_the_standard_library_without_a_text(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "module.py").write_text(some_words(12_000), encoding="utf-8")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(library))
    for name, few in (("STEPS", 2), ("WIDTH", 8)):
        monkeypatch.setattr(laboratory, name, few)
    monkeypatch.setattr(lecture_page, "CHAPTERS", [usage.packing])
    monkeypatch.chdir(tmp_path)
    done = command("lecture", option)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "page  lecture/lecture.html"
    written = Path("lecture/lecture.html").read_text(encoding="utf-8")
    assert "Python's standard library" in html.unescape(written)
    assert "--data" not in written
    if option == "--json":
        (chapter,) = json.loads(done.stdout)
        assert chapter["chapter"] == "packing"
    else:
        assert done.stdout.count("\u2713 ") + done.stdout.count("\u2717 ") == 1


def test_shapes_are_those_of_pytorchs_documentation(measured: Any) -> None:
    _, found = measured
    rows = found["shapes"].figures[0].rows
    assert rows[0][1:] == ("[7, 5]", "[2, 4]", "[2, 4]", "[7, 4]", "[2, 4]", "[2, 4]")
    assert rows[3][1:5] == ("[3, 7, 5]", "[4, 3, 4]", "[4, 3, 4]", "[3, 7, 8]")


@pytest.mark.parametrize("lines", [64, 65])
def test_packing_takes_lines_of_different_lengths(lines: int, tmp_path: Path) -> None:
    """The first line begins at no end of another, and empty ones are not counted."""
    path = tmp_path / "words.txt"
    path.write_text("\n".join(["fox " * 40, *["dog"] * (lines - 2), "", "", "brew\n"]))
    lab = Lab(str(path))
    if lines == 65:
        assert usage.line_lengths(lab).tolist() == [4] * 63 + [5]
        return
    with pytest.raises(DataError) as refused:
        usage.line_lengths(lab)
    assert refused.value.what == "the text has 63 lines, the chapter on packing takes 64"
    assert refused.value.advice == "give a text with more lines"


def test_cells_that_have_hardly_learned_track_no_parity(measured: Any) -> None:
    _, found = measured
    assert found["parity"].holds is False
    assert all(share < 0.9 for own in found["parity"].values["shares"].values() for share in own)


def test_recurrences_that_are_not_linear_track_parity() -> None:
    """Train as the command does: a seed that none of the terms was chosen by."""
    chapter = tracking.parity(Lab(), Words("en", PACKAGE))
    shares = chapter.values["shares"]
    assert chapter.holds is True, shares
    assert shares["rnn"] == [1, 1, 1]
    assert max(shares["mingru"] + shares["minlstm"]) < 0.6
    sizes = [int(row[2].replace(",", "")) for row in chapter.figures[1].rows]
    assert max(sizes) < 1.05 * min(sizes)


def test_examples_of_parity_are_new() -> None:
    trained = set(tracking.TASK.training_text(tracking.CHARACTERS).splitlines())
    assert max(map(len, trained)) == tracking.TASK.longest + 2
    for times in TIMES:
        examples = tracking.TASK.tests(times)
        assert len(examples) == 200
        assert trained.isdisjoint(example.line for example in examples)


@pytest.mark.parametrize(
    ("cell", "shares", "shown"),
    [
        ("rnn", [1.0, 1.0, 0.5], True),
        ("rnn", [0.98, 1.0, 1.0], False),
        ("gru", [1.0, 0.55, 0.5], False),
        ("mingru", [0.5, 0.59, 0.2], True),
        ("mingru", [0.7, 0.5, 0.5], False),
        ("minlstm", [0.5, 0.5, 0.7], False),
    ],
)
def test_claim_on_parity_is_about_every_cell(cell: str, shares: list[float], shown: bool) -> None:
    every = dict.fromkeys(tracking.NONLINEAR, [1.0] * 3)
    every |= dict.fromkeys(tracking.LINEAR, [0.5] * 3)
    assert tracking.is_shown(every)
    assert tracking.is_shown({**every, cell: shares}) is shown


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_needs_nothing_from_elsewhere(measured: Any, language: str, tmp_path: Path) -> None:
    _, found = measured
    said = Words(language, PACKAGE)
    view = pages.View(
        "lecture",
        "title",
        [],
        [chapter.section(said) for chapter in found.values()],
        [chapter.as_json(said) for chapter in found.values()],
        language=language,
    )
    json.dumps(view.data)
    path = pages.write(view, tmp_path, "charlm lecture", pngs=False)
    page = path.read_text(encoding="utf-8")
    assert f'<html lang="{language}">' in page
    assert len(page.encode()) < 1_000_000
    tags = Tags(page)
    assert not tags.mistakes
    assert not tags.stack
    assert not any(tag in ("iframe", "img", "object") for tag, _ in tags.tags)
    assert all("src" not in attributes for tag, attributes in tags.tags if tag == "script")
    assert not re.search(r"url\((?!#)|@import", page)
    assert not list(tmp_path.glob("*.png"))


@needs_browser
def test_browser_has_nothing_to_complain_about(measured: Any, tmp_path: Path) -> None:
    _, found = measured
    sections = [chapter.section(Words("ko", PACKAGE)) for chapter in found.values()]
    view = pages.View("lecture", "t", [], sections, {}, language="ko")
    path = pages.write(view, tmp_path, "charlm lecture", pngs=False)
    dom, log = browse(path.as_uri(), tmp_path, "--dump-dom")
    assert "CONSOLE" not in log, log
    assert dom.count("<figure") == 8
