"""Where a training run stands: part of every checkpoint."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from charlm.config.messages import sentence
from charlm.evaluation.tally import Score
from charlm.training.events import Stalled

SMOOTHING = 0.15
"""Of the training loss: the smoothed one lags about as far behind as validation does."""
STALLED_AFTER = 3
"""Evaluations without a new best that are reported; fewer are noise."""


Count = Annotated[int, Field(ge=0, le=10**12)]
Best = Annotated[
    dict[Literal["step", "loss", "bits_per_character"], int | float],
    Field(min_length=3),
]
"""The evaluation that was best."""


@dataclass
class TrainingState:
    """What a run has behind it, beside the tensors. Units: seconds of training; losses in nats."""

    __pydantic_config__ = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")

    step: Count = 0
    seconds: Annotated[float, Field(ge=0)] = 0.0
    loss_count: Count = 0
    """Steps since the last log."""
    recent_loss: float | None = None
    """The losses of the logs so far, smoothed."""
    evaluated_at: Count = 0
    best: Best | None = None
    evaluations: Count = 0
    since_best: Count = 0
    """Evaluations in a row that found no new best."""
    recent_loss_at_best: float | None = None

    @classmethod
    def from_json(cls, value: Any) -> "TrainingState":
        """Read what `asdict` made of one. Raises: ValueError for anything else."""
        try:
            return TypeAdapter(cls).validate_json(json.dumps(value))
        except ValidationError as error:
            raise ValueError(sentence(error)) from None

    def record_loss(self, loss: float) -> None:
        """Take a logged training loss into the smoothed one."""
        before = self.recent_loss
        self.recent_loss = loss if before is None else before + SMOOTHING * (loss - before)

    def record_evaluation(self, score: Score) -> bool:
        """Count an evaluation; tell whether it is the best so far."""
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
        """Return the report that is due once evaluations have found no new best for a while."""
        if self.since_best != STALLED_AFTER or self.best is None:
            return None
        then, now = self.recent_loss_at_best, self.recent_loss
        overfits = then is not None and now is not None and now < then
        return Stalled(self.step, self.since_best, int(self.best["step"]), overfits)
