"""Where a training run stands: part of every checkpoint."""

from dataclasses import dataclass
from typing import Any

from charlm.evaluation.surprisal import Score
from charlm.training.events import Stalled

SMOOTHING = 0.15
"""Of the training loss: the smoothed one lags about as far behind as validation does."""
STALLED_AFTER = 3
"""Evaluations without a new best that are reported; fewer are noise."""


@dataclass
class TrainingState:
    """What a run has behind it, beside the tensors. Units: seconds of training; losses in nats."""

    step: int = 0
    seconds: float = 0.0
    loss_count: int = 0
    """Steps since the last log."""
    recent_loss: float | None = None
    """The losses of the logs so far, smoothed."""
    evaluated_at: int = 0
    best: dict[str, Any] | None = None
    evaluations: int = 0
    since_best: int = 0
    """Evaluations in a row that found no new best."""
    recent_loss_at_best: float | None = None

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
        return Stalled(self.step, self.since_best, self.best["step"], overfits)
