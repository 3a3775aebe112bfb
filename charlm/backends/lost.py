"""What one of several processes learns of the end of another."""

from collections.abc import Mapping
from typing import Any

from charlm.errors import CharlmError


class LostError(CharlmError):
    """Another rank has died, or does not answer: what a launcher may mend by starting anew."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h; only the launcher sees it


class ToldError(CharlmError):
    """An error of another rank, which has printed it."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        super().__init__(told["what"], told["advice"])
        self.exit_code = int(told["exit_code"])
