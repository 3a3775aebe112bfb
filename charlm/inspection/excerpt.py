"""Text for the analysis of a trained model: its run's validation split."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from charlm.common.errors import DataError
from charlm.text.stretch import Stretch
from charlm.text.vocabulary import Symbols, Vocabulary

if TYPE_CHECKING:
    from charlm.text.corpus import Corpus


@dataclass(frozen=True)
class Excerpt(Stretch):
    """A stretch of a run's own text that it was not trained on, with the vocabulary."""

    vocabulary: Vocabulary

    def characters(self) -> list[str]:
        """Return the symbols of the stretch as strings."""
        return characters(self.vocabulary, self.read())


def characters(vocabulary: Vocabulary, symbols: Symbols) -> list[str]:
    """Return one string per symbol."""
    table = [vocabulary.symbol(index) for index in range(len(vocabulary))]
    return [table[index] for index in symbols.tolist()]


def validation(corpus: "Corpus", least: int) -> Excerpt:
    """Return the validation split. Raises: DataError if it has fewer than `least` symbols."""
    split = corpus.splits["validation"]
    if len(split) < least:
        raise DataError(
            f"the validation split has {len(split):,} symbols, at least {least:,} are needed",
            "train on a longer text, or with a larger validation split (data.split)",
        )
    return Excerpt(corpus.symbols, split.start, split.stop, corpus.vocabulary)
