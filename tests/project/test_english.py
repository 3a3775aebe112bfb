"""The English of docstrings, comments, messages, help and pages: no phrase of the word list."""

import ast
import html
import io
import re
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from charlm.cli.app import app

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "charlm").rglob("*.py"))
KERNELS = sorted((ROOT / "charlm" / "native" / "kernels").glob("*.*"))
READMES = sorted([*(ROOT / "charlm").rglob("README.md"), ROOT / "README.md"])
TEMPLATES = sorted((ROOT / "charlm" / "reports" / "templates").rglob("*.*"))
PRESETS = sorted((ROOT / "configs").rglob("*.toml"))
WORDS = ROOT / "charlm" / "lecture" / "words" / "en.toml"

NAMES_THE_THING = "name the thing: not 'Return what reads a text', but 'Return a reader'"
PHRASES = {
    r"\bwhat\b(?!:)": NAMES_THE_THING,  # "what:" describes a parameter
    r"\btell whether\b": "write 'Return True if'",
    r"\breturn whether\b": "write 'Return True if'",
    r"\b(is|are|was|were|been) told\b": "write 'called with'",
    r"\btold\b": "write 'called with', 'listed' or 'set'",
    r"\bso (many|often|far as)\b": "name the number, or write 'as far as'",
    r"(?<!left )\bbehind\b": "write 'after'",
    r"\b(is|are|was|were) to (?!the\b|a\b|an\b|another\b)": "write 'will', 'must' or 'should'",
    r"\bof such a\b": "write 'of this kind'",
    r"\bwho(m)?ever\b": "name the user, the process or the caller",
    r"\bwhatever\b": "write 'any'",
    r"\bnobody\b": "write 'no process', 'no reader' or the passive",
    r"\ba stranger\b": "write 'foreign', or 'another user'",
    r"\bin a moment\b": "write 'quickly'",
}
"""Patterns that no text may have, in any case, each with the way to mend it."""
QUESTIONS = {"what", "whether", "how", "which", "where", "who", "why", "tell", "say", "have"}
"""Words that do not begin a docstring: a function begins with a verb, all others with a noun."""
QUOTED = re.compile(r"`[^`\n]*`|\"[^\"\n]*\"")
"""Names and quotations, which are not charlm's English."""

Found = tuple[str, str]
"""The place of a text, and the text."""


def docstrings(source: str, name: str) -> Iterator[Found]:
    """Yield the docstrings of a module, also those of its constants and attributes."""
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        for line in body if isinstance(body, list) else []:
            match line:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield f"{name}:{line.lineno}", text


def messages(source: str, name: str) -> Iterator[Found]:
    """Yield the strings of a module that are sentences or parts of sentences."""
    tree = ast.parse(source)
    stated = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in stated and text.count(" ") > 1:
                yield f"{name}:{node.lineno}", text


def comments(source: str, name: str) -> Iterator[Found]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield f"{name}:{token.start[0]}", token.string


def help_texts() -> Iterator[Found]:
    """Yield the help of every command, argument and option."""
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        yield f"charlm {name}", command.help or ""
        yield f"charlm {name}", command.short_help or ""
        for parameter in command.params:
            yield f"charlm {name} {parameter.name}", getattr(parameter, "help", "") or ""


def visible(template: str) -> str:
    """Return a template's text without tags, styles and expressions; of a script, its strings."""
    plain = re.sub(r"<style>.*?</style>|{#.*?#}", " ", template, flags=re.DOTALL)
    plain = re.sub(r"{%.*?%}|{{.*?}}", " ", plain, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", " ", plain))


def pages() -> Iterator[Found]:
    """Yield the pages for users: README files, templates, presets and the lecture's words."""
    for path in READMES:
        yield str(path.relative_to(ROOT)), re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    for path in TEMPLATES:
        yield str(path.relative_to(ROOT)), visible(path.read_text(encoding="utf-8"))
    for path in PRESETS:
        lines = path.read_text(encoding="utf-8").splitlines()
        yield str(path.relative_to(ROOT)), " ".join(line.partition("#")[2] for line in lines)
    for chapter, entries in tomllib.loads(WORDS.read_text(encoding="utf-8")).items():
        for name, value in entries.items():
            for text in [value] if isinstance(value, str) else value:
                yield f"{WORDS.name} {chapter}.{name}", text


def wrong(text: str) -> list[str]:
    """List the phrases of the word list in a text, with the way to mend each."""
    plain = QUOTED.sub(" ", text)
    return [
        f"{found[0]!r}: {advice}"
        for phrase, advice in PHRASES.items()
        if (found := re.search(phrase, plain, re.IGNORECASE))
    ]


def refuse(texts: Iterator[Found]) -> None:
    faults = [f"{place}: {fault}" for place, text in texts for fault in wrong(text)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_comments_and_messages_are_plain(path: Path) -> None:
    source, name = path.read_text(encoding="utf-8"), str(path.relative_to(ROOT))
    refuse(iter([*docstrings(source, name), *comments(source, name), *messages(source, name)]))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_begin_with_a_verb_or_a_noun(path: Path) -> None:
    for place, text in docstrings(path.read_text(encoding="utf-8"), path.name):
        first = re.match(r"\W*(\w*)", text)
        assert first is not None
        assert first[1].lower() not in QUESTIONS, (place, text)


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.name)
def test_comments_of_the_kernels_are_plain(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    refuse((f"{path.name}:{n}", line.partition("//")[2]) for n, line in enumerate(lines, start=1))


def test_help_is_plain() -> None:
    texts = list(help_texts())
    assert len(texts) > 50
    refuse(iter(texts))


def test_pages_are_plain() -> None:
    texts = list(pages())
    assert len(texts) > 100
    refuse(iter(texts))


@pytest.mark.parametrize(
    "planted",
    [
        "Return what reads a text.",
        "What of a chunk is in which split.",
        "Tell whether a file is there.",
        "Return whether a file is there.",
        "advanced: is told how far it is.",
        "Run torch on so many threads.",
        "The end of a record stands behind each.",
        "A folder that is to be walked.",
        "The options of such a run.",
        "Whoever iterates over it decides.",
    ],
)
def test_a_planted_phrase_is_found(planted: str) -> None:
    source = f'def planted() -> None:\n    """{planted}"""\n'
    with pytest.raises(AssertionError, match=r"planted\.py:2"):
        refuse(docstrings(source, "planted.py"))
    with pytest.raises(AssertionError, match=r"planted\.py:1"):
        refuse(comments(f"x = 1  # {planted}\n", "planted.py"))
    with pytest.raises(AssertionError, match=r"planted\.py:1"):
        refuse(messages(f"x = {planted!r}", "planted.py"))
    assert wrong(visible(f"<p>{planted}</p>{{{{ value }}}}"))


def test_names_and_parameters_are_not_phrases() -> None:
    assert not wrong("An error with its cause (`what`). what: names the text in errors.")
    assert not wrong("The part that is to the left of the other one.")
