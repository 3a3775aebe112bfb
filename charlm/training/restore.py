"""Restoring a learner from a checkpoint."""

from charlm.errors import CheckpointError, DataError
from charlm.runs.checkpoint import Checkpoint
from charlm.text.corpus import Corpus
from charlm.training.learner import Learner
from charlm.training.state import TrainingState
from charlm.training.teachers import refuse_other


def restore(
    learner: Learner, corpus: Corpus, checkpoint: Checkpoint, path: object
) -> TrainingState:
    """Load a checkpoint into a learner; return the state of the training.

    path: of the text, for messages.

    Raises: DataError if the text is a different one; CheckpointError if tensors do not fit.
    """
    state = checkpoint.state
    if state.corpus != corpus.fingerprint:
        raise DataError(
            f"the text has changed since {checkpoint.folder} was written, or is another one: "
            f"{path}",
            "name the text that it was trained on (--data PATH), or train again",
        )
    refuse_other(learner.teachers, state.teachers)
    tensors = checkpoint.training()
    try:
        progress = TrainingState.from_json(state.progress)
        if progress.step != checkpoint.step:
            raise ValueError(f"step {progress.step} in the state of {checkpoint.step}")
        if checkpoint.vocabulary != corpus.vocabulary:
            raise ValueError("the vocabulary is not that of the text")
        learner.load(progress.step, progress.loss_count, checkpoint.weights, tensors)
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{checkpoint.folder} does not fit its own configuration: {error}",
            "use the run that charlm wrote",
        ) from None
    return progress
