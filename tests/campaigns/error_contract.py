"""The contract of errors: what every command line owes its user, whatever it was given.

A command line is carried out in this process, by `charlm.__main__.run`. `breach` names what it did
that it may not do.
"""

import io
import json
import math
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import typer

from charlm.__main__ import run
from charlm.cli.app import app

CODES = {0, 1, 2, 3, 4}
NOT_LOADED = re.compile("^error: (charlm cannot be loaded|a library cannot be loaded)", re.M)
CONTROL = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))} - {"\n", "\t"}


COMMANDS = typer.main.get_command(app)
"""All commands as typer makes them of their functions: once here, for a process at each start."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a command line. crash: the traceback of an exception that nothing caught."""

    code: object
    out: str
    err: str
    crash: str = ""


def carried_out(arguments: Sequence[str]) -> Outcome:
    """Carry a command line out, with an empty stdin."""
    code: object = None
    crash = ""
    parsed = mock.patch("typer.main.get_command", return_value=COMMANDS)
    with _streams() as (out, err), warnings.catch_warnings(), parsed:
        warnings.simplefilter("ignore")  # pytest makes errors of them, a user's process does not
        try:
            code = run(list(arguments))
        except SystemExit as exit:
            code = exit.code
        except BaseException:
            crash = traceback.format_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        return Outcome(code, _text(out), _text(err), crash)


def _text(stream: io.BytesIO) -> str:
    return stream.getvalue().decode("utf-8", "replace")


@contextmanager
def _streams() -> Iterator[tuple[io.BytesIO, io.BytesIO]]:
    """Replace the standard streams by ones in memory, of the encodings that a process has."""
    before = sys.stdin, sys.stdout, sys.stderr
    out, err = io.BytesIO(), io.BytesIO()
    sys.stdin = io.TextIOWrapper(io.BytesIO(b""), encoding="utf-8")
    sys.stdout = io.TextIOWrapper(out, encoding="utf-8", write_through=True)
    sys.stderr = io.TextIOWrapper(
        err, encoding="utf-8", errors="backslashreplace", write_through=True
    )
    try:
        yield out, err
    finally:
        sys.stdin, sys.stdout, sys.stderr = before


def breach(outcome: Outcome, longest: int | None = None) -> str:
    """Describe the breach of the contract by an outcome; "" without one. longest: of stderr."""
    if outcome.crash:
        lines = outcome.crash.strip().splitlines()
        at = [line.strip() for line in lines if "charlm/" in line and line.lstrip()[:4] == "File"]
        where = at[-1].rpartition("/charlm/")[2] if at else ""
        return f"traceback: {lines[-1][:160]} ({where})"
    if outcome.code not in CODES:
        return f"exit code {outcome.code!r}"
    if "Traceback (most recent call last)" in outcome.err:
        return "a traceback was printed"
    if found := sorted(CONTROL.intersection(outcome.err)):
        return f"raw control characters on stderr: {found}"
    if longest is not None and len(outcome.err) > longest:
        return f"{len(outcome.err):,} characters on stderr: {outcome.err[:80]!r}"
    starts = [line.partition(":")[0] for line in outcome.err.split("\n")]
    errors, helps = starts.count("error"), starts.count("help")
    if outcome.code == 0:
        return "exit code 0 with an error" if errors else ""
    if (errors, helps) != (1, 1) or starts.index("help") < starts.index("error"):
        return f"exit {outcome.code} with {errors} error and {helps} help: {outcome.err[:160]!r}"
    if not all(
        line.partition(":")[2].strip()
        for line in outcome.err.split("\n")
        if line.startswith(("error:", "help:"))
    ):
        return f"an empty message: {outcome.err[:160]!r}"
    if NOT_LOADED.search(outcome.err):
        return f"a module cannot be imported: {outcome.err[:160]!r}"
    return ""


def not_finite(text: str) -> str:
    """List the numbers of a JSON text that are not finite; "" where all are."""
    try:
        found = json.loads(text)
    except ValueError as error:
        return f"no JSON: {error}"
    bad = [f"{name} = {value}" for name, value in _numbers(found) if not math.isfinite(value)]
    return ", ".join(bad)


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _numbers(below, str(key))
    elif isinstance(value, list):
        for below in value:
            yield from _numbers(below, name)
    elif isinstance(value, int | float):
        yield name, value
