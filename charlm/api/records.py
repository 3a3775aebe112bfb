"""Comparison of written records with those of the training text."""

import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import numpy as np

from charlm.api.plain import Trained
from charlm.common import consent
from charlm.common.errors import CharlmError, DataError
from charlm.inspection.novelty import KnownRecords
from charlm.runs.own_text import corpus_of
from charlm.sampling.generate import Generation, Sample

READ_UNASKED = 5_000_000
"""Most symbols of a text that is compared without --novel: about a second."""
ROUNDS = 100
"""Most draws, in units of the requested number, in the search for new records."""

log = logging.getLogger(__name__)


def known_records(loaded: Trained, *, needed: bool) -> KnownRecords | None:
    """Return the records of a run's text, of all its splits; None for a model of running text, and
    if they are not `needed` and not quickly available.

    Raises: DataError if they are needed and unavailable.
    """
    if loaded.vocabulary.end is None:
        return None
    try:
        with nullcontext() if needed else consent.asking(consent.refuse):
            corpus = corpus_of(loaded.checkpoint)
    except DataError as error:
        if needed:
            raise
        log.warning(f"new records are not marked: {error.what}")
        return None
    if len(corpus.symbols) > READ_UNASKED and not needed:
        return None
    return KnownRecords.of(loaded.vocabulary, corpus.symbols[1:])


class NewRecords:
    """A search for `num` new records: complete, not empty, not in the training text, and distinct.
    Iterate over it once; then they are in `samples`.

    draw: makes a generation from a seed.

    Raises: CharlmError if too few are found.
    """

    def __init__(
        self, draw: Callable[..., Generation], seed: int, num: int, known: KnownRecords
    ) -> None:
        self._draw, self._seed, self._num, self._known = draw, seed, num, known
        self.samples = [Sample() for _ in range(num)]
        self.prompt: list[int] = []

    def __iter__(self) -> Iterator[str]:
        found: dict[str, Sample] = {}
        for number in range(ROUNDS):
            seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
            generation = self._draw(seed=seed)
            list(generation)
            self.prompt = generation.prompt
            for one in generation.samples:
                if one.text and self._known.lacks([*generation.prompt, *one.indices]):
                    found.setdefault(one.text, one)
            if len(found) >= self._num:
                self.samples = list(found.values())[: self._num]
                yield self.samples[0].text
                return
        raise CharlmError(
            f"only {len(found):,} of {self._num:,} records are new and whole after "
            f"{ROUNDS * self._num:,} draws",
            "raise --temperature or --length, or ask for fewer",
        )
