"""The command line: its commands, one a module, and their execution.

The module of a command declares its options and checks them. It imports slow modules inside the
functions that need them.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
import typer.main

from charlm.cli.bench import bench
from charlm.cli.cache import cache
from charlm.cli.compare import compare
from charlm.cli.export import export
from charlm.cli.init import init
from charlm.cli.inspect import inspect
from charlm.cli.lecture import lecture
from charlm.cli.options import Debug
from charlm.cli.outcome import exit_code_of
from charlm.cli.question import may_open
from charlm.cli.runs import runs
from charlm.cli.sample import sample
from charlm.cli.score import score
from charlm.cli.serve import serve
from charlm.cli.train import train
from charlm.common import consent
from charlm.common.errors import UsageError
from charlm.common.version import __version__

EXAMPLES = """\b
Examples:
  charlm train my.txt
  charlm sample --prompt "Once upon a time"
  charlm compare rnn lstm gru --data my.txt

\b
Exit codes:
  0 done, 1 failure, 2 wrong usage or data, 3 damaged checkpoint, 4 diverged,
  128 + n after signal n (saved)
"""
MAY_BE_EMPTY = {"--prompt", "--stop", "--gates"}
"""Options whose value is a text, not a name."""

app = typer.Typer(
    name="charlm",
    help="Train, sample, score and compare recurrent character-level language models.",
    epilog=EXAMPLES,
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 100},
)


def _show_version(value: bool) -> None:
    if value:
        print(f"charlm {__version__}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, help="Print the version.")
    ] = False,
    debug: Debug = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


app.command(short_help="Train a model on a text, or resume a run.")(train)
app.command(short_help="Write text with a trained model.")(sample)
app.command(short_help="Score a text: bits per character.")(score)
app.command(short_help="Write a preset as a file to start from.")(init)
app.command(short_help="Compare cells on equal terms.")(compare)
app.command(short_help="Analyse a trained model.")(inspect)
app.command(short_help="Write a trained model as a page, or for other programs.")(export)
app.command(short_help="Serve a trained model to other programs.")(serve)
app.command(short_help="Measure the lecture's claims, on a page.")(lecture)
app.command(short_help="List the runs of a folder.")(runs)
app.command(short_help="Show or clear the cache.")(cache)
app.command(short_help="Measure the speed of this machine.")(bench)


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
