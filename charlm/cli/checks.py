"""Checks that several commands make before torch is imported, which takes two seconds.

Checks import their modules late: pydantic, too, takes a tenth of a second.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from charlm.common.errors import UsageError

if TYPE_CHECKING:
    from charlm.config.schema import DataConfig


def refuse_no_file(path: Path | None, option: str) -> None:
    """Check that the file of an option can be written. Raises: UsageError."""
    if path is None:
        return
    if path.exists() and not path.is_file():
        kind = "a folder, not a file" if path.is_dir() else "not a file that can be replaced"
        raise UsageError(f"{path} is {kind}", f"name a file: {option} FILE")
    if not path.absolute().parent.is_dir():
        raise UsageError(
            f"there is no folder {path.parent}", f"make it, or name another file: {option} FILE"
        )


def refuse_no_folder(path: Path | None, option: str) -> None:
    """Check that the folder of an option exists or can be created. Raises: UsageError."""
    for place in (path, *path.parents) if path is not None else ():
        if place.exists() and not place.is_dir():
            raise UsageError(f"{place} is a file, not a folder", f"name a folder: {option} DIR")


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
