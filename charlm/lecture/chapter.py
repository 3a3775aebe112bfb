"""A chapter of the lecture: a claim or question, its measurement, and a command for more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from charlm.reports.view import Block, Command, Equation, Live, Section
from charlm.reports.words import Words

PACKAGE = "charlm.lecture"
"""Package of the lecture's `Words`."""


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
