"""Statistics of a text, and its splits: train, validation and test."""

from dataclasses import dataclass, field
from pathlib import Path

from charlm.common.errors import DataError
from charlm.config.schema import DataConfig
from charlm.text.files.measuring import Measured
from charlm.text.files.walking import TextFiles

SPLITS = ("train", "validation", "test")


class EmptySplitError(DataError):
    """A text too short for its splits: one of them would be empty."""


class TooRareError(DataError):
    """A text too short for `data.minimum_count`: no symbol occurs that often."""


@dataclass(frozen=True)
class Split:
    """A stretch of the corpus.

    start, stop: positions of its symbols. characters, bytes: its size as counted by `TextSize`;
    the end of a record counts as one character, unless records are files. unknown: counts of the
    symbols in it that the vocabulary lacks.
    """

    start: int
    stop: int
    characters: int
    bytes: int
    unknown: dict[str, int]

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class TextStats:
    """Measurements of a text's files.

    digest: SHA-256 of the files' digests. found: the files that are read, and those left out.
    """

    files: tuple[Path, ...]
    measured: dict[Path, Measured]
    characters: int
    digest: str
    found: TextFiles = field(default_factory=TextFiles)

    @property
    def size(self) -> int:
        """Number of bytes."""
        return sum(piece.size for file in self.files for piece in self.measured[file].pieces)

    @property
    def is_huge(self) -> bool:
        """True if it is so large that its vocabulary is made from a sample."""
        return self.size > HUGE


HUGE = 10 << 30
"""Bytes above which a text is huge: its vocabulary is made from a sample, and each held-out split
has at most `HELD_OUT` characters, unless `data.held_out_limit` is set."""
HELD_OUT, SAMPLED = 10_000_000, 128
"""HELD_OUT: characters. SAMPLED: chunks of a huge text's train split in its sample, about 1 GB."""


def held_out_limit(data: DataConfig, text: TextStats) -> int:
    """Return the most characters that a held-out split may have."""
    return data.held_out_limit or (HELD_OUT if text.is_huge else text.characters)


def split_ends(data: DataConfig, characters: int, limit: int) -> tuple[int, int, int]:
    """Return the character at which each split ends.

    limit: the most characters of a held-out split. Raises: EmptySplitError.
    """
    train, validation, test = data.split
    train_end = int(characters * train + 1e-6)
    validation_end = int(characters * (train + validation) + 1e-6)
    test_size = min(characters - validation_end if test else 0, limit)
    validation_size = min(validation_end - train_end if validation else 0, limit)
    for name, share, size in (
        ("validation", validation, validation_size),
        ("test", test, test_size),
    ):
        if share and not size:
            raise EmptySplitError(
                f"{share:g} of {characters:,} characters leaves the {name} split empty",
                "use a longer text, or hold nothing out: --set data.split=[1,0,0]",
            )
    train_end = characters - validation_size - test_size
    if train_end < 2:
        raise EmptySplitError(
            f"{train:g} of {characters:,} characters leaves {train_end} to train on",
            "use a longer text, or hold nothing out: --set data.split=[1,0,0]",
        )
    return train_end, characters - test_size, characters
