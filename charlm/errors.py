"""The errors that charlm raises on purpose, and the exit code of each.

    CharlmError          1   a failure while running
    ├── ConfigError      2   a key, a value or a combination that cannot be
    ├── DataError        2   a text that cannot be read or used
    ├── UsageError       2   a command that cannot be carried out as given
    ├── CheckpointError  3   damaged, incomplete or foreign
    └── DivergedError    4   the loss is no longer a number

Each says what happened, with the value seen, and what to do about it.
"""


class CharlmError(Exception):
    """What happened (`what`, with the value seen) and what to do (`advice`)."""

    exit_code = 1

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(what)
        self.what = what
        self.advice = advice


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
