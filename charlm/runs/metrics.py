"""The metrics of a run, written during training as JSON lines."""

import contextlib
import json
from pathlib import Path
from typing import Any

from charlm.common.files import read_regular

UNEXPECTED = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
"""Exceptions that an invalid line may cause."""


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics.jsonl; incomplete and invalid lines are skipped."""
    rows: list[dict[str, Any]] = []
    with contextlib.suppress(OSError):
        for line in read_regular(run / "metrics.jsonl").decode("utf-8", "replace").split("\n"):
            with contextlib.suppress(*UNEXPECTED):
                row = json.loads(line)
                if isinstance(row["kind"], str):
                    rows.append(row)
    return rows
