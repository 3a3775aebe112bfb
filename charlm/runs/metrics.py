"""What a run has written about its training, line by line."""

import contextlib
import json
from pathlib import Path
from typing import Any

from charlm.files import read_regular

UNEXPECTED = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
"""What reading a line that holds something else may raise."""


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics.jsonl; a torn line, or one that is no row, is left out."""
    rows: list[dict[str, Any]] = []
    with contextlib.suppress(OSError):
        for line in read_regular(run / "metrics.jsonl").decode("utf-8", "replace").split("\n"):
            with contextlib.suppress(*UNEXPECTED):
                row = json.loads(line)
                if isinstance(row["kind"], str):
                    rows.append(row)
    return rows
