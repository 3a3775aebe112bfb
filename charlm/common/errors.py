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
from collections.abc import Sequence


class CharlmError(Exception):
    """An error with its cause (`what`, with the value seen) and its remedy (`advice`).

    details: a line for each of several causes.
    """

    exit_code = 1

    def __init__(self, what: str, advice: str, details: Sequence[str] = ()) -> None:
        super().__init__("\n  ".join([what, *details]))
        self.what = what
        self.advice = advice
        self.details = tuple(details)

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
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = "check its permissions, and those of its folder"
    else:
        advice = "check the disk, then run the same command again; --debug shows where it happened"
    return CharlmError(what, advice)
