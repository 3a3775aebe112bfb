"""The errors that charlm raises on purpose, and the exit code of each.

    CharlmError          1   a failure while running
    ├── ConfigError      2   an invalid key, value or combination
    ├── DataError        2   a text that cannot be read or used
    ├── UsageError       2   a command that cannot be carried out as given
    ├── CheckpointError  3   a damaged, incomplete or foreign checkpoint
    └── DivergedError    4   a loss that is no longer finite

Each has a message with the value seen, and advice.
"""

import errno
import re
from collections.abc import Sequence

OPTION = re.compile(r"charlm [a-z]+ .*|(?<![^\s(])--(?:set ('[^']+'|[^\s;)]+)|([a-z-]+)( [A-Z])?)")
"""A command line, or an option in a message: `--set` with its value, others with a metavariable."""
ARGUMENTS = {
    **{"with": "with_", "clamp": "clamps", "checkpoint": "which"},
    **{"init": "train.start_from", "teacher": "train.teachers"},
}
"""Arguments and keys in Python whose name differs from the option's."""


def _in_python(text: str) -> str:
    """Replace options in a message by arguments in Python, as `--data PATH` by `data=PATH`."""

    def argument(found: re.Match[str]) -> str:
        setting, name, value = found.groups()
        if setting:
            return f"set={setting.strip(chr(39))!r}"
        if not name:
            return found[0]
        return ARGUMENTS.get(name, name.replace("-", "_")) + (f"={value[1]}" if value else "")

    return OPTION.sub(argument, text)


class CharlmError(Exception):
    """An error with its cause (`what`, with the value seen) and its remedy (`advice`).

    details: a line for each of several causes. They name options of the command line; the error as
    a text, as in a traceback, names the arguments in Python.
    """

    exit_code = 1

    def __init__(self, what: str, advice: str, details: Sequence[str] = ()) -> None:
        super().__init__("\n  ".join([what, *details]))
        self.what = what
        self.advice = advice
        self.details = tuple(details)

    def __str__(self) -> str:
        return "\n  ".join(map(_in_python, filter(None, [self.what, *self.details, self.advice])))

    def __reduce__(self) -> tuple[type, tuple[str, str, tuple[str, ...]]]:
        """Support pickling, so that an error can pass between processes."""
        return type(self), (self.what, self.advice, self.details)


class ConfigError(CharlmError):
    exit_code = 2


class DataError(CharlmError):
    exit_code = 2


class UsageError(CharlmError):
    exit_code = 2


class CheckpointError(CharlmError):
    exit_code = 3


class DivergedError(CharlmError):
    exit_code = 4


CANNOT_BE_NAMED = {errno.ENAMETOOLONG, errno.ELOOP}


def from_system(error: OSError) -> CharlmError:
    """Make the error for an error of the system that was not handled more specifically."""
    said = error.strerror or str(error)
    what = f"{error.filename}: {said}" if error.filename else said
    if error.errno in CANNOT_BE_NAMED:
        return UsageError(what, "give another name")
    if error.errno == errno.EBADF:
        advice = "give the result somewhere to go, as in: charlm ... > FILE"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "make room, then run the same command again (a run: with --resume)"
    elif error.errno == errno.ENOMEM:
        advice = "close other programs, then run the same command again (a run: with --resume)"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = "check its permissions, and those of its folder"
    else:
        advice = "check the disk, then run the same command again; --debug shows where it happened"
    return CharlmError(what, advice)
