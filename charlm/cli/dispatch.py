"""Execution of a command line, with its exit code."""

import sys
from collections.abc import Sequence

import typer.main

from charlm import consent
from charlm.cli import analysis  # noqa: F401 (its commands)
from charlm.cli.app import app
from charlm.cli.outcome import exit_code_of
from charlm.cli.question import may_open
from charlm.errors import UsageError

MAY_BE_EMPTY = {"--prompt", "--stop", "--gates"}
"""Options whose value is a text, not a name."""


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    words = sys.argv[1:] if arguments is None else arguments

    def command() -> object:
        refuse_empty(words)
        return app(words, prog_name="charlm", standalone_mode=False)

    with consent.asking(may_open):
        return exit_code_of(command)


def refuse_empty(words: Sequence[str]) -> None:
    """Check that no value on a command line is empty. Raises: UsageError."""
    if not any(word == "" or word.endswith("=") for word in words):
        return
    group = typer.main.get_command(app)
    commands = getattr(group, "commands", {})
    command = next((commands[word] for word in words if word in commands), group)
    with_value = {
        name
        for parameter in command.params
        for name in parameter.opts
        if not getattr(parameter, "is_flag", False)
    }
    for before, word in zip(["", *words], words, strict=False):
        option, equals, value = word.partition("=")
        if word == "":
            option = before if before in with_value else ""
        elif not (equals and not value and option in with_value):
            continue
        if option not in MAY_BE_EMPTY:
            raise UsageError(
                f"the value of {option} is empty" if option else "an argument is empty",
                "give a value, or leave it out (a variable of the shell may be empty)",
            )
