"""The user's word for what a run names: texts and other runs, which may lie anywhere.

A run from elsewhere can name an address to connect to, or any file of its reader's. So a name is
opened only once the user has given it here: to train on it, or in answer to a question. A digest of
each such name is kept in the cache.
"""

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path

from charlm.errors import DataError
from charlm.files import cache_folder, private_file, writable

FOLDER = "named"
"""Of the cache. It holds the user's word, so whoever empties the cache spares it."""
MOST_LISTED = 3
"""Names in a message."""

Question = Callable[[str, Sequence[str]], bool]
"""Asks the user whether the names that a run has for something ("text") may be opened."""

log = logging.getLogger(__name__)


class NoConsentError(DataError):
    """A run names what the user has not."""


def refuse(kind: str, names: Sequence[str]) -> bool:
    """Answer for a user who cannot be asked."""
    return False


_question: ContextVar[Question] = ContextVar("question", default=refuse)


@contextlib.contextmanager
def asking(question: Question) -> Iterator[None]:
    """Ask the user by `question` during a `with` block."""
    before = _question.set(question)
    try:
        yield
    finally:
        _question.reset(before)


def remember(names: Sequence[str]) -> None:
    """Remember names that the user has given. A cache that cannot be written is warned of."""
    for name in names:
        path = _path(name)
        if path.exists():
            continue
        try:
            with contextlib.suppress(FileExistsError):  # another process has done so meanwhile
                private_file(writable(path.parent) / path.name).close()
        except (OSError, DataError) as error:
            said = error.what if isinstance(error, DataError) else error.strerror
            log.warning(f"{said}: {name} has to be named again to be opened for its run")


def missing(names: Sequence[str]) -> list[str]:
    """List the names that the user has not given."""
    return [name for name in names if not _path(name).exists()]


def require(names: Sequence[str], kind: str, advice: str) -> None:
    """Check that the user has given the names that a run has for something, or ask.

    kind: what they are, as in "text". advice: how to name it, as in "--data PATH".

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
