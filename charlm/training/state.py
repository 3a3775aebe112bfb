"""State of a training run: part of every checkpoint."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from charlm.config.messages import sentence
from charlm.evaluation.tally import Score
from charlm.training.events import Stalled

SMOOTHING = 0.15
"""Weight of the newest training loss in the smoothed one, which lags about as much as validation.
"""
STALLED_AFTER = 3
"""Evaluations without a new best after which a stall is reported; fewer are noise."""


Count = Annotated[int, Field(ge=0, le=10**12)]
Best = Annotated[
    dict[Literal["step", "loss", "bits_per_character"], int | float],
    Field(min_length=3),
]
"""The best evaluation."""


@dataclass
class TrainingState:
    """Progress of a run, without tensors. Units: seconds of training; losses in nats."""

    __pydantic_config__ = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")

    step: Count = 0
    seconds: Annotated[float, Field(ge=0)] = 0.0
    loss_count: Count = 0
    """Steps since the last log."""
    recent_loss: float | None = None
    """Smoothed training loss."""
    evaluated_at: Count = 0
    best: Best | None = None
    evaluations: Count = 0
    since_best: Count = 0
    """Evaluations since the best one."""
    recent_loss_at_best: float | None = None

    @classmethod
    def from_json(cls, value: Any) -> "TrainingState":
        """Parse the result of `asdict`. Raises: ValueError for anything else."""
        try:
            return TypeAdapter(cls).validate_json(json.dumps(value))
        except ValidationError as error:
            raise ValueError(sentence(error)) from None

    def record_loss(self, loss: float) -> None:
        """Update the smoothed training loss with a logged one."""
        before = self.recent_loss
        self.recent_loss = loss if before is None else before + SMOOTHING * (loss - before)

    def record_evaluation(self, score: Score) -> bool:
        """Record an evaluation; return True if it is the best so far."""
        self.evaluated_at, self.evaluations = self.step, self.evaluations + 1
        if self.best is not None and score.loss >= self.best["loss"]:
            self.since_best += 1
            return False
        self.since_best, self.recent_loss_at_best = 0, self.recent_loss
        self.best = {
            "step": self.step,
            "loss": score.loss,
            "bits_per_character": score.bits_per_character,
        }
        return True

    def stalled(self) -> Stalled | None:
        """Return the report of a stall if one is due, else None."""
        if self.since_best != STALLED_AFTER or self.best is None:
            return None
        then, now = self.recent_loss_at_best, self.recent_loss
        overfits = then is not None and now is not None and now < then
        return Stalled(self.step, self.since_best, int(self.best["step"]), overfits)
