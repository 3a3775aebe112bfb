"""The text that a trained model is looked at with: its run's validation split."""

from dataclasses import dataclass

import numpy as np

from charlm.errors import DataError
from charlm.evaluation.scoring import corpus_of
from charlm.runs.checkpoint import Checkpoint
from charlm.text.corpus import Corpus
from charlm.text.symbols import SymbolSource
from charlm.text.vocabulary import Symbols, Vocabulary


@dataclass(frozen=True)
class Excerpt:
    """A stretch of a run's own text that it was not trained on.

    start, stop: where it is in `source`. `source` is the whole text, so that a model may read what
    stands before.
    """

    vocabulary: Vocabulary
    source: SymbolSource
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def head(self, most: int) -> "Excerpt":
        """Return its first symbols, at most so many."""
        return Excerpt(self.vocabulary, self.source, self.start, min(self.stop, self.start + most))

    def symbols(self) -> Symbols:
        """Read the stretch."""
        return np.asarray(self.source[self.start : self.stop])

    def characters(self) -> list[str]:
        """Return the symbols of the stretch as strings."""
        return characters(self.vocabulary, self.symbols())


def characters(vocabulary: Vocabulary, symbols: Symbols) -> list[str]:
    """Return symbols as strings, one each."""
    table = [vocabulary.symbol(index) for index in range(len(vocabulary))]
    return [table[index] for index in symbols.tolist()]


def own_text(checkpoint: Checkpoint) -> Corpus:
    """Read a run's text anew. Raises: DataError where it is not there or has changed."""
    return corpus_of(checkpoint)


def validation(corpus: Corpus, least: int) -> Excerpt:
    """Return the validation split. Raises: DataError where it has fewer than `least` symbols."""
    split = corpus.splits["validation"]
    if len(split) < least:
        raise DataError(
            f"the validation split has {len(split):,} symbols; this looks at {least:,} at least",
            "train on a longer text, or with a larger validation split (data.split)",
        )
    return Excerpt(corpus.vocabulary, corpus.symbols, split.start, split.stop)
