"""The files named in a run's configuration: its text, start run and teachers.

This is the only place where they are opened by name, so that a foreign run cannot open anything
that the user has not named on this machine (`charlm.consent`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from charlm import consent
from charlm.config import loading
from charlm.config.schema import Config, DataConfig
from charlm.text.files.sources import BUILTIN, STANDARD_LIBRARY

if TYPE_CHECKING:
    from charlm.text.corpus import Corpus

BY_NAME = ("data.path", "train.start_from", "train.teachers")
"""Keys whose values name files to open."""


def remember(config: Config, origins: Mapping[str, str]) -> None:
    """Remember the names given by the user in a configuration, as absolute paths.

    origins: of its keys; values from a run's own configuration are not the user's.
    """
    for key in BY_NAME:
        if is_users(key, origins):
            section, _, name = key.partition(".")
            consent.remember(_names(getattr(getattr(config, section), name)))


def is_users(key: str, origins: Mapping[str, str]) -> bool:
    """Return True if a value of a configuration was given by the user, not by a run."""
    return origins.get(key, loading.RUN) != loading.RUN


def is_known(data: DataConfig) -> bool:
    """Return True if the user has named all of a run's text on this machine."""
    return not consent.missing(_names(data.path))


def open_text(data: DataConfig, fingerprint: str = "") -> "Corpus":
    """Return the encoded text of a run, read again.

    If the user has not named it on this machine, only its copy in the user's cache is opened.

    fingerprint: of the run's text, to find that copy.

    Raises: NoConsentError if there is no such copy; DataError: see `corpus.prepare`.
    """
    from charlm.text import corpus  # here: it imports numpy

    names = _names(data.path)
    if fingerprint and consent.missing(names) and (own := corpus.cached(fingerprint)):
        return own
    consent.require(names, "text", "if you have the text, or want that one: --data PATH")
    return corpus.prepare(data, corpus.survey(data))


def require_start(config: Config) -> None:
    """Check that a run's start run may be opened. Raises: NoConsentError."""
    names = _names(config.train.start_from)
    consent.require(names, "run to start from", "to open it: --init RUN, by that name")


def require_teachers(config: Config) -> None:
    """Check that a run's teachers may be opened. Raises: NoConsentError."""
    names = _names(config.train.teachers)
    consent.require(names, "teacher", "to open it: --teacher RUN, by that name")


def _names(value: str | Sequence[str]) -> list[str]:
    """List names, except those shipped with charlm or Python; paths are made absolute."""
    names = [value] if isinstance(value, str) else value
    own = [name for name in names if name and not _is_shipped(name)]
    return [name if name.startswith("https://") else str(Path(name).absolute()) for name in own]


def _is_shipped(name: str) -> bool:
    return name.startswith(BUILTIN) or name == STANDARD_LIBRARY
