"""What a trainer reports while it works. Whoever iterates over it decides what to show."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Trained:
    """Some steps were taken.

    Units: loss in nats a symbol, the mean since the last such event; seconds of training so far,
    evaluation left out; characters of source text read so far.
    """

    step: int
    characters: int
    seconds: float
    loss: float
    bits_per_character: float
    learning_rate: float
    gradient_norm: float


@dataclass(frozen=True)
class Evaluated:
    """The held-out text was scored. Units: as `Trained`; `took`: seconds of this evaluation."""

    step: int
    characters: int
    seconds: float
    loss: float
    bits_per_character: float
    is_best: bool
    took: float


@dataclass(frozen=True)
class Sampled:
    """The evaluated model has written a text. Units: loss in nats a symbol; else as `Trained`."""

    step: int
    characters: int
    seconds: float
    loss: float
    bits_per_character: float
    text: str


@dataclass(frozen=True)
class Stalled:
    """Evaluations have found no new best for a while. Comes once for each best.

    evaluations: how many in a row. best_step: where the best was. overfits: whether the training
    loss has fallen since, so that the model is learning the text by heart.
    """

    step: int
    evaluations: int
    best_step: int
    overfits: bool


@dataclass(frozen=True)
class Saved:
    """A checkpoint is on disk."""

    step: int
    folder: Path


@dataclass(frozen=True)
class Finished:
    """The run has ended; `summary` is what `train --json` prints."""

    summary: dict[str, Any]


Event = Trained | Evaluated | Sampled | Stalled | Saved | Finished
