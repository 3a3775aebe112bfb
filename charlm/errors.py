"""The errors that charlm raises on purpose, and the exit code of each.

    CharlmError          1   a failure while running
    ├── ConfigError      2   a key, a value or a combination that cannot be
    ├── DataError        2   a text that cannot be read or used
    ├── UsageError       2   a command that cannot be carried out as given
    ├── CheckpointError  3   damaged, incomplete or foreign
    └── DivergedError    4   the loss is no longer a number

Each says what happened, with the value seen, and what to do about it.
"""

import errno
from collections.abc import Sequence


class CharlmError(Exception):
    """What happened (`what`, with the value seen) and what to do (`advice`).

    details: where it is several things, a line for each.
    """

    exit_code = 1

    def __init__(self, what: str, advice: str, details: Sequence[str] = ()) -> None:
        super().__init__("\n  ".join([what, *details]))
        self.what = what
        self.advice = advice
        self.details = tuple(details)

    def __reduce__(self) -> tuple[type, tuple[str, str, tuple[str, ...]]]:
        """Let an error pass from a process to the one that started it."""
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
    """Make the error for what the system refused where nobody had an answer of their own."""
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
