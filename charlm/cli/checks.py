"""Checks that several commands make before torch is imported, which takes two seconds.

Checks import their modules late: pydantic, too, takes a tenth of a second.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charlm.config.schema import DataConfig


def refuse_missing(own: "DataConfig", data: Sequence[str]) -> None:
    """Check that the text named by the user, if any, exists. own: the run's. Raises: DataError."""
    if data:
        from charlm.text.files import sources

        sources.refuse_missing(own.model_copy(update={"path": list(data)}))


def refuse_partners(folder: Path, others: Sequence[object]) -> None:
    """Check the other runs of a mixture. folder: of the first one's checkpoint.

    Raises: UsageError, CheckpointError.
    """
    if others:
        from charlm.runs.finding import find_partners
        from charlm.runs.state import read_state

        with silent():
            for partner in find_partners(folder, [*map(str, others)]).values():
                read_state(partner)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Suppress warnings, which the command itself will log again."""
    log = logging.getLogger("charlm")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
