"""Errors raised when another rank fails."""

from collections.abc import Mapping
from typing import Any

from charlm.common.errors import CharlmError


class LostError(CharlmError):
    """The death of another rank, or its silence. The launcher may restart all ranks."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h; only the launcher sees it


class ReportedError(CharlmError):
    """An error of another rank, read from the store. That rank prints it."""

    def __init__(self, report: Mapping[str, Any]) -> None:
        super().__init__(report["what"], report["advice"])
        self.exit_code = int(report["exit_code"])
