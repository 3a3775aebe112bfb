"""Results that a notebook displays."""

from dataclasses import dataclass

from charlm.evaluation.scoring import Scored
from charlm.evaluation.tally import in_bits
from charlm.inspection.excerpt import characters
from charlm.text.vocabulary import Vocabulary

FULL = 8
"""Bits from which on a character has the full colour."""


@dataclass(frozen=True)
class ShownScore(Scored):
    """A scored text that a notebook displays coloured by surprisal."""

    vocabulary: Vocabulary

    def _repr_html_(self) -> str:
        """Return the text as HTML, everything in it escaped."""
        from charlm.reports.view import Coloured, notebook_html

        bits = in_bits(self.vocabulary, self.symbols, self.surprisals.numpy())
        about = f"{self.score.bits_per_character:.3f} bits per character"
        letters = characters(self.vocabulary, self.symbols)
        return notebook_html(Coloured(about, letters, bits / FULL))
