"""Choice of the most probable of several texts."""

from collections.abc import Iterator
from typing import Protocol

from charlm.sampling.generate import Sample, bits_per_character
from charlm.text.vocabulary import Vocabulary


class Candidates(Protocol):
    """Texts after the same prompt, in `samples` once iterated over."""

    @property
    def samples(self) -> list[Sample]: ...

    @property
    def prompt(self) -> list[int]: ...

    def __iter__(self) -> Iterator[str]: ...


class BestOf:
    """The most probable of every `size` candidates: the one with the fewest bits per character
    under the unfiltered model. Iterate over it once: this yields the first of the chosen texts, and
    leaves all of them in `samples`.

    Bits per character are compared, because bits per text would favour the shortest.
    """

    def __init__(self, candidates: Candidates, size: int, vocabulary: Vocabulary) -> None:
        self._candidates, self._size, self._vocabulary = candidates, size, vocabulary
        self.samples = [Sample() for _ in range(len(candidates.samples) // size)]

    @property
    def prompt(self) -> list[int]:
        """The symbols that the texts continue."""
        return self._candidates.prompt

    def __iter__(self) -> Iterator[str]:
        for _ in self._candidates:
            pass
        written, size = self._candidates.samples, self._size
        self.samples = [
            min(written[at : at + size], key=lambda one: bits_per_character(one, self._vocabulary))
            for at in range(0, len(written), size)
        ]
        yield self.samples[0].text
