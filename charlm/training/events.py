"""Events that a trainer yields while it trains; the caller decides which to show."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict


@dataclass(frozen=True)
class Trained:
    """Steps of training since the last event of this kind.

    Units: loss in nats per symbol, the mean over these steps; seconds of training so far, without
    evaluation; characters of source text read so far.
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
    """An evaluation on held-out text. Units: as `Trained`; `took`: seconds of this evaluation."""

    step: int
    characters: int
    seconds: float
    loss: float
    bits_per_character: float
    is_best: bool
    took: float


@dataclass(frozen=True)
class Sampled:
    """A sample of the evaluated model. Units: loss in nats per symbol; otherwise as `Trained`."""

    step: int
    characters: int
    seconds: float
    loss: float
    bits_per_character: float
    text: str


@dataclass(frozen=True)
class Stalled:
    """Several evaluations in a row without a new best; yielded once per best.

    evaluations: their number. best_step: step of the best. overfits: True if the training loss has
    fallen since, so that the model is memorising the text.
    """

    step: int
    evaluations: int
    best_step: int
    overfits: bool


@dataclass(frozen=True)
class Saved:
    """A checkpoint that has been written."""

    step: int
    folder: Path


class Environment(TypedDict):
    """The device, backend and precision of a computation."""

    device: str
    precision: str
    threads: int
    backend: str


class Summary(Environment):
    """The output of `train --json`. Units: as `Trained`; peak_memory_bytes: of the process or of
    the GPU, 0 if unknown. best: the step and the loss of the best evaluation;
    None if nothing was evaluated."""

    run: str
    cell: str
    parameters: int
    recurrent_parameters: int
    vocabulary_size: int
    steps: int
    characters: int
    seconds: float
    characters_per_second: float
    peak_memory_bytes: int
    best: dict[Literal["step", "loss", "bits_per_character"], int | float] | None
    stopped_by: str


@dataclass(frozen=True)
class Finished:
    """The end of the run."""

    summary: Summary


Event = Trained | Evaluated | Sampled | Stalled | Saved | Finished
