"""Recovery of a run that has diverged: its last good checkpoint."""

import logging
import math
from collections.abc import Callable, Mapping

from torch import Tensor

from charlm.common.errors import CharlmError, CheckpointError
from charlm.runs import checkpoint
from charlm.runs.directory import RunDirectory
from charlm.training.learner import Learner
from charlm.training.state import TrainingState

log = logging.getLogger(__name__)


def spoilt(weights: Mapping[str, Tensor]) -> str:
    """Return the name of the first weight with values that are not finite; "" if none."""
    return next((name for name, w in weights.items() if not checkpoint.is_finite(w)), "")


def rewind_to_good(run: RunDirectory, fresh: Callable[[], Learner]) -> bool:
    """Rewind a run to its newest checkpoint from which a step succeeds; return True if there is
    one.

    Weights may have grown out of bounds, though finite, before the loss shows it: such a checkpoint
    would diverge again. fresh: returns a new learner of the run.
    """
    for folder in run.newest_first():
        try:
            saved = checkpoint.read(folder)
            if _goes_on(saved, fresh()):
                best = TrainingState.from_json(saved.state.progress).best
                run.rewind(saved.step, int(best["step"]) if best else None)
                return True
        except (CheckpointError, ValueError):
            continue
        except (CharlmError, RuntimeError, MemoryError):  # such as no memory for a second model
            return False
        log.warning(f"no step can be taken from {folder} any more")
    return False


def _goes_on(saved: checkpoint.Checkpoint, learner: Learner) -> bool:
    """Return True if loss and gradient of the next step are finite."""
    learner.load(saved.step, 0, saved.weights, saved.training())
    learner.loss_sum.zero_()
    norm = learner.take_step()
    return math.isfinite(learner.mean_loss()) and math.isfinite(norm.item())


def advice(run: RunDirectory, *, good: bool) -> str:
    """Return advice for a run that has diverged. good: True if its latest checkpoint is good."""
    lower = "--set train.learning_rate=RATE with a lower RATE"
    if run.has_checkpoints() and not good:
        return f"begin another run with a lower train.learning_rate; {run.path} has its checkpoints"
    if good:
        again = f"charlm train --resume --run {run.path} {lower}"
        return f"go on from the last good checkpoint: {again}"
    return f"begin again: the same command with --resume {lower}, or more train.warmup_steps"
