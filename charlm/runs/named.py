"""What a run names: its text, the run that it starts from, its teachers.

This is the one place where they are opened by name, so that a run from elsewhere opens nothing that
the user has not named here (`charlm.consent`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from charlm import consent
from charlm.config import loading
from charlm.config.schema import Config, DataConfig
from charlm.text.sources import BUILTIN, STANDARD_LIBRARY

if TYPE_CHECKING:
    from charlm.text.corpus import Corpus

BY_NAME = ("data.path", "train.start_from", "train.teachers")
"""Keys whose values are names of what is opened."""


def remember(config: Config, origins: Mapping[str, str]) -> None:
    """Remember what the user has named in a configuration, with absolute paths.

    origins: of its keys; what comes from a run's own configuration is not the user's word.
    """
    for key in BY_NAME:
        if is_users(key, origins):
            section, _, name = key.partition(".")
            consent.remember(_names(getattr(getattr(config, section), name)))


def is_users(key: str, origins: Mapping[str, str]) -> bool:
    """Return whether a value of a configuration is the user's word, not a run's own."""
    return origins.get(key, loading.RUN) != loading.RUN


def is_known(data: DataConfig) -> bool:
    """Return whether the user has named all of a run's text here."""
    return not consent.missing(_names(data.path))


def open_text(data: DataConfig, fingerprint: str = "") -> "Corpus":
    """Return the encoded text that a run names, read anew.

    Where the user has not named it here, nothing is opened but the copy in the user's own cache.

    fingerprint: of the text as the run knows it, to find that copy by.

    Raises: NoConsentError where there is no such copy; DataError: see `corpus.prepare`.
    """
    from charlm.text import corpus  # here: it imports numpy

    names = _names(data.path)
    if fingerprint and consent.missing(names) and (own := corpus.cached(fingerprint)):
        return own
    consent.require(names, "text", "if you have the text, or want that one: --data PATH")
    return corpus.prepare(data, corpus.survey(data))


def require_start(config: Config) -> None:
    """Check that the run that a run starts from may be opened. Raises: NoConsentError."""
    names = _names(config.train.start_from)
    consent.require(names, "run to start from", "to open it: --init RUN, by that name")


def require_teachers(config: Config) -> None:
    """Check that a run's teachers may be opened. Raises: NoConsentError."""
    names = _names(config.train.teachers)
    consent.require(names, "teacher", "to open it: --teacher RUN, by that name")


def _names(value: str | Sequence[str]) -> list[str]:
    """List what may lie anywhere: not what comes with charlm or Python. Paths are absolute."""
    names = [value] if isinstance(value, str) else value
    own = [name for name in names if name and not _is_shipped(name)]
    return [name if name.startswith("https://") else str(Path(name).absolute()) for name in own]


def _is_shipped(name: str) -> bool:
    return name.startswith(BUILTIN) or name == STANDARD_LIBRARY
