"""The texts of a page in a language, from a TOML file."""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

LANGUAGES = ("en", "ko")


class Words:
    """Texts of a package in a language, by section and name: its file is words/<language>.toml."""

    def __init__(self, language: str, package: str) -> None:
        source = files(package).joinpath("words", f"{language}.toml")
        self.sections: Mapping[str, Mapping[str, Any]] = tomllib.loads(source.read_text("utf-8"))
        self.language = language

    def text(self, section: str, name: str, values: Mapping[str, Any] | None = None) -> str:
        """Return a sentence, filled in with values."""
        pattern: str = self.sections[section][name]
        return pattern.format_map(values or {})

    def paragraphs(self, section: str, values: Mapping[str, Any]) -> list[str]:
        """Return the paragraphs of a section, which are its list "says"."""
        return [text.format_map(values) for text in self.sections[section]["says"]]

    def named(self, *sections: str) -> dict[str, str]:
        """Return all sentences of sections by name, with their fields left open, for a script."""
        return {name: text for key in sections for name, text in self.sections[key].items()}

    def everything(self) -> str:
        """Return all sentences as one text."""
        pieces: list[str] = []
        for section in self.sections.values():
            for value in section.values():
                pieces += value if isinstance(value, list) else [value]
        return "\n".join(pieces)
