"""A run's own text, opened again: for copies, new records, scores of its splits.

Importing this does not import torch.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from charlm.common import consent
from charlm.common.errors import CheckpointError, DataError
from charlm.runs import named
from charlm.runs.checkpoint import Checkpoint
from charlm.text.files import sources

if TYPE_CHECKING:
    from charlm.text.corpus import Corpus


def corpus_of(saved: Checkpoint) -> "Corpus":
    """Return a run's own data, read from the run's path or from the one that the user named.

    Raises: DataError if the text has changed, or may not be opened; CheckpointError if the run's
        vocabulary is not that of its text.
    """
    if saved.text is not None:
        return saved.text
    encoded = named.open_text(saved.config.data, saved.state.corpus)
    if encoded.fingerprint != saved.state.corpus:
        raise DataError(
            "the run's text has changed since it was trained",
            "name the text that it was trained on: --data PATH",
        )
    return _fitting(encoded, saved)


def with_text(saved: Checkpoint, paths: Sequence[str]) -> Checkpoint:
    """Return a checkpoint with new paths of its text, which may have been moved.

    Raises: DataError if it is another text; as `corpus.prepare`.
    """
    absolute = [sources.absolute(path) for path in paths]
    consent.remember(absolute)
    data = saved.config.data.model_copy(update={"path": absolute})
    encoded = named.open_text(data)
    if encoded.fingerprint != saved.state.corpus:
        raise DataError(
            f"{', '.join(paths)} is not the text that this run was trained on, or it has changed",
            f"the run's configuration names {saved.config.data.path}; --data PATH takes the same "
            "text from another place",
        )
    return replace(saved, text=_fitting(encoded, saved))


def _fitting(encoded: "Corpus", saved: Checkpoint) -> "Corpus":
    """Return a run's text. Raises: CheckpointError if the run has another vocabulary."""
    if encoded.vocabulary != saved.vocabulary:
        raise CheckpointError(
            f"the vocabulary of {saved.folder} is not that of its text",
            "use the run that charlm wrote",
        )
    return encoded
