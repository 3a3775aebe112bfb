"""Make the project's docstrings Markdown for mkdocstrings: labels in italics, examples as code."""

import re
from typing import Any

import griffe

LABEL = re.compile(r"^(Raises|Returns|Shapes|Units|Source|Arguments|Yields)(?=[:,])", re.MULTILINE)
ARGUMENT = re.compile(r"(^|(?<=[.)] ))([a-z_]+): (?=\S)", re.MULTILINE)
EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\n).*)*", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites every docstring that is shown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """Return a docstring as Markdown."""
    pieces, at = [], 0
    for example in EXAMPLE.finditer(text):
        code = re.sub(r"  +# doctest: .*", "", example[0])
        pieces += [_words(text[at : example.start()]), f"```pycon\n{code}\n```"]
        at = example.end()
    return "".join([*pieces, _words(text[at:])])


def _words(text: str) -> str:
    lines = (line.strip() if not line.startswith("        ") else line for line in text.split("\n"))
    flat = "\n".join(lines)
    first, blank, rest = flat.partition("\n\n")
    return LABEL.sub(r"*\1*", first + blank + ARGUMENT.sub(r"\1`\2`: ", rest))
