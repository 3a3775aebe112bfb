"""A chapter of the lecture: a claim or question, its measurement, and a command for more."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from charlm.reports.view import Block, Command, Equation, Live, Section

LANGUAGES = ("en", "ko")


class Words:
    """The lecture's texts in a language, by chapter and name."""

    def __init__(self, language: str) -> None:
        source = files("charlm.lecture").joinpath("words", f"{language}.toml")
        self._chapters = tomllib.loads(source.read_text("utf-8"))
        self.language = language

    def text(self, chapter: str, name: str, values: Mapping[str, Any] | None = None) -> str:
        """Return a sentence, filled in with values."""
        pattern: str = self._chapters[chapter][name]
        return pattern.format_map(values or {})

    def paragraphs(self, chapter: str, values: Mapping[str, Any]) -> list[str]:
        """Return a chapter's paragraphs below its figures."""
        return [text.format_map(values) for text in self._chapters[chapter]["says"]]

    def named(self, *chapters: str) -> dict[str, str]:
        """Return all sentences of chapters by name, with their fields left open, for a script."""
        return {name: text for key in chapters for name, text in self._chapters[key].items()}

    def everything(self) -> str:
        """Return all sentences as one text."""
        pieces: list[str] = []
        for chapter in self._chapters.values():
            for value in chapter.values():
                pieces += value if isinstance(value, list) else [value]
        return "\n".join(pieces)


@dataclass(frozen=True)
class Chapter:
    """A chapter's result. key: of its texts. holds: True if the claim holds; None if it has none.

    equation: lines. figures: shown before the paragraphs. values: for the texts and for JSON. more:
    the command that shows more. live: computed by the page's script, after the paragraphs.
    """

    key: str
    figures: Sequence[Block]
    values: Mapping[str, Any]
    holds: bool | None = None
    equation: str = ""
    more: str = ""
    live: Live | None = None

    def section(self, words: Words) -> Section:
        """Return the chapter as a part of the page, figures first."""
        blocks: list[Block] = [Equation(self.equation)] if self.equation else []
        blocks += self.figures
        blocks += words.paragraphs(self.key, self.values)
        if self.live:
            blocks.append(self.live)
        if self.more:
            blocks.append(Command(words.text("page", "more"), self.more))
        return Section(words.text(self.key, "title", self.values), blocks, self.holds)

    def as_json(self, words: Words) -> dict[str, Any]:
        """Return the chapter for the output of `lecture --json`."""
        return {
            "chapter": self.key,
            "title": words.text(self.key, "title", self.values),
            "holds": self.holds,
            "values": dict(self.values),
        }
