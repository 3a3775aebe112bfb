"""Mixtures of trained models for scoring and sampling, static or adaptive."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from charlm.common.errors import DataError, UsageError
from charlm.evaluation.adaptation import AdaptiveReader, adaptive_reader
from charlm.evaluation.mixture import Mixture
from charlm.evaluation.reading import Reader
from charlm.evaluation.surprisal import log_distributions
from charlm.models.ngram import NGram
from charlm.models.recurrent import CharModel
from charlm.runs.checkpoint import Checkpoint
from charlm.runs.own_text import corpus_of
from charlm.sampling.engine import Engine, make_engine
from charlm.sampling.mixture import MixtureEngine
from charlm.text.stretch import Stretch
from charlm.text.vocabulary import Symbols, Vocabulary

LEARNED_FROM = 100_000
"""Symbols of the validation split from which the powers for sampling are learned."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mixed:
    """A mixture of trained models, whose probabilities are multiplied.

    checkpoint: of the first. models: all networks, by the names of their runs. ngram: the n-gram
    model, if it is one of the mixture.
    """

    checkpoint: Checkpoint
    vocabulary: Vocabulary
    models: Mapping[str, CharModel]
    ngram: NGram | None

    def adaptive(self) -> dict[str, AdaptiveReader]:
        """Return readers for dynamic evaluation by name, each tuned on the first run's train split.

        Raises: DataError: see `train_split`.
        """
        train = train_split(self.checkpoint)
        return {name: adaptive_reader(model, train) for name, model in self.models.items()}

    def mixture(self, readers: Mapping[str, AdaptiveReader] | None = None) -> Mixture:
        """Return a reader whose powers are equal at first and learned while it reads.

        readers: adaptive readers of the networks; None for static networks.
        """
        networks: dict[str, Reader] = {
            name: readers[name].distributions if readers else partial(log_distributions, model)
            for name, model in self.models.items()
        }
        return Mixture(networks, len(self.vocabulary), self.ngram)

    def adapted_to(self, text: str) -> "Mixed":
        """Return the mixture with its networks adapted to a text. Raises: as `adapted`."""
        models, symbols = list(self.models.values()), self.vocabulary.encode(text)
        learned = adapted(models, self.checkpoint, symbols)
        return replace(self, models=dict(zip(self.models, learned, strict=True)))

    def learned(self) -> Mixture:
        """Return the mixture with powers learned on the beginning of the run's validation split;
        with equal powers, and a warning, if the split is unavailable."""
        mixture = self.mixture()
        try:
            stretch = corpus_of(self.checkpoint).stretch("validation")
            if not len(stretch):
                raise DataError("the validation split is empty", "")
            mixture(stretch.head(LEARNED_FROM))
        except DataError as error:
            log.warning(f"{error.what}: all models have the same power")
        return mixture

    def engine(self, powers: NDArray[np.float64], num: int, precision: str = "auto") -> Engine:
        """Return an engine for `num` texts. powers: as in `Mixture.powers`."""
        engines = [make_engine(model, num, precision) for model in self.models.values()]
        return MixtureEngine(engines, self.ngram, powers, num, len(self.vocabulary))


def adapted(models: Sequence[CharModel], of: Checkpoint, text: Symbols) -> list[CharModel]:
    """Return models adapted to a text, at a pace tuned on a run's train split.

    Raises: UsageError if the text has fewer than two symbols; DataError: see `train_split`.
    """
    if len(text) < 2:
        raise UsageError(
            "there is nothing to learn from: it takes two characters at least",
            "give a longer prompt, or do not adapt to it",
        )
    train, result = train_split(of), []
    for model in models:
        reader = adaptive_reader(model, train)
        reader(Stretch.of(text))
        result.append(reader.model.requires_grad_(False))
    return result


def train_split(of: Checkpoint) -> Stretch:
    """Open a run's train split again. Raises: DataError if its text has changed."""
    return corpus_of(of).stretch("train")
