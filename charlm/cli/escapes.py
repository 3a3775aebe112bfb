"""Escapes in options that take text: most shells pass '\\n' on as a backslash and an n."""

import re

from charlm.terminal import console
from charlm.text.vocabulary import Vocabulary

ESCAPES = {"\\n": "\n", "\\t": "\t", "\\\\": "\\"}


def read_escapes(option: str, text: str, vocabulary: Vocabulary) -> str:
    """Return an option's text with \\n, \\t and \\\\ read as escapes if the model knows no
    backslash, else unchanged. Print a line on either case."""
    if vocabulary.unknown_in("\\"):
        unescaped = re.sub(r"\\[nt\\]", lambda escape: ESCAPES[escape[0]], text)
        if unescaped != text:
            console.print_status(
                rf"{option}: \n, \t and \\ are read as escapes, since the model knows no backslash",
                "aside",
            )
        return unescaped
    if re.search(r"\\[nt]", text):
        console.print_status(
            rf"{option}: the model knows the backslash, so \n and \t are two characters each; "
            rf"for the end of a line write {option} $'\n' in the shell",
            "aside",
        )
    return text
