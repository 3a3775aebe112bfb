"""The n-gram model of a run, counted once and stored in the run."""

import logging

from charlm.common.errors import CheckpointError
from charlm.models.ngram import NGram
from charlm.runs import ngram_file
from charlm.runs.checkpoint import Checkpoint
from charlm.runs.own_text import corpus_of

MOST_SYMBOLS = 20_000_000
"""Symbols to count, from the end of the train split: 8 million take 13 seconds and 640 MB."""

log = logging.getLogger(__name__)


def ngram_of(saved: Checkpoint) -> NGram:
    """Return the Kneser-Ney model of a run's own train split.

    It is stored in the run. For a checkpoint outside of a run it is counted at every call.

    Raises: DataError if it must be counted, and the run's text has changed.
    """
    run = saved.folder.parent.parent if saved.folder.parent.name == "checkpoints" else None
    fingerprint = saved.state.corpus
    if run is not None and (run / ngram_file.FOLDER).exists():
        try:
            return ngram_file.read(run, fingerprint, len(saved.vocabulary))
        except CheckpointError as error:
            log.warning(f"{error.what}; it is counted again")
    encoded = corpus_of(saved)
    log.info("counting the n-grams of the train split")
    model = NGram.of(encoded.stretch("train").tail(MOST_SYMBOLS).read(), len(encoded.vocabulary))
    if run is not None:
        try:
            ngram_file.write(run, model, fingerprint)
        except OSError as error:
            log.warning(f"the n-gram model is not kept in {run}: {error.strerror}")
    return model
