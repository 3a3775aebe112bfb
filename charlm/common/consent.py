"""The user's consent to open the texts and runs that a run names.

A foreign run can name a URL or any file of its reader. So a name is opened only once the user has
given it on this machine: to train on it, or in answer to a question. A digest of each such name is
stored in the cache.
"""

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path

from charlm.common.errors import DataError
from charlm.common.files import cache_folder, private_file, writable

FOLDER = "named"
"""Folder in the cache with the user's consents, which `charlm cache --clear` does not remove."""
MOST_LISTED = 3
"""Most names in a message."""

Question = Callable[[str, Sequence[str]], bool]
"""Asks the user for consent to open names of a kind, such as "text"; returns the answer."""

log = logging.getLogger(__name__)


class NoConsentError(DataError):
    """A run names a file that the user has not named."""


def refuse(kind: str, names: Sequence[str]) -> bool:
    """Deny consent, because the user cannot be asked."""
    return False


_question: ContextVar[Question] = ContextVar("question", default=refuse)


@contextlib.contextmanager
def asking(question: Question) -> Iterator[None]:
    """Use `question` to ask the user during a `with` block."""
    before = _question.set(question)
    try:
        yield
    finally:
        _question.reset(before)


def remember(names: Sequence[str]) -> None:
    """Remember names given by the user; log a warning if the cache cannot be written."""
    for name in names:
        path = _path(name)
        if path.exists():
            continue
        try:
            with contextlib.suppress(FileExistsError):  # another process has created it
                private_file(writable(path.parent) / path.name).close()
        except (OSError, DataError) as error:
            said = error.what if isinstance(error, DataError) else error.strerror
            log.warning(f"{said}: {name} must be named again to be opened for its run")


def missing(names: Sequence[str]) -> list[str]:
    """List the names that the user has not given."""
    return [name for name in names if not _path(name).exists()]


def require(names: Sequence[str], kind: str, advice: str) -> None:
    """Check that the user has given the names in a run, or ask for consent.

    kind: of the files, as in "text". advice: the option that names them, as in "--data PATH".

    Raises: NoConsentError.
    """
    if not (unknown := missing(names)):
        return
    if _question.get()(kind, unknown):
        remember(unknown)
        return
    listed = ", ".join(unknown[:MOST_LISTED])
    more = f" and {len(unknown) - MOST_LISTED:,} more" if len(unknown) > MOST_LISTED else ""
    raise NoConsentError(
        f"this run was not made here, and its {kind} is not opened without your word: "
        f"{listed}{more}",
        advice,
    )


def _path(name: str) -> Path:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return cache_folder() / FOLDER / digest
