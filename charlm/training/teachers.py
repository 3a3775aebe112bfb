"""Teachers: trained runs whose predictions a model learns by knowledge distillation.

Symbols: T time, B lanes, V vocabulary size.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from charlm.backends.choice import computation_of
from charlm.common.errors import DataError, UsageError
from charlm.models.recurrent import CharModel, States
from charlm.runs import checkpoint
from charlm.runs.finding import find_checkpoint
from charlm.runs.manifest import MODEL, promised, read_manifest
from charlm.text.corpus import Corpus
from charlm.training.lanes import Merge, from_named, merged, named, parted

Tensors = dict[str, Tensor]


class Teachers:
    """An ensemble of runs that predicts the mean of their probabilities on the learner's windows.

    digests: the SHA-256 of each run's weights. groups: of lanes, as in `Learner`.
    """

    def __init__(
        self, models: Sequence[CharModel], digests: Sequence[str], groups: Sequence[range]
    ) -> None:
        self._computations = [computation_of(model) for model in models]
        self._groups, self.digests = groups, list(digests)
        self._states: list[list[States]] = []
        """States of every teacher, group by group."""
        self.start_over()

    def start_over(self) -> None:
        """Reset all states, for a new pass over the text."""
        self._states = [
            [one.model.initial_states(len(lanes)) for lanes in self._groups]
            for one in self._computations
        ]

    def probabilities(self, symbols: Tensor, group: int = 0) -> Tensor:
        """Read a window of a group of lanes; return p of every next symbol.

        Shapes: [T, B] -> [T, B, V].
        """
        mean: Tensor | None = None
        for at, one in enumerate(self._computations):
            states = self._states[at]
            logs, states[group] = one.log_probabilities(symbols, states[group])
            mean = logs.exp_() if mean is None else mean.add_(logs.exp_())
        assert mean is not None
        return mean.div_(len(self._computations))

    def state(self, merge: Merge) -> Tensors:
        """Return the tensors that a resumed run needs, merged over all lanes."""
        tensors: Tensors = {}
        for number, groups in enumerate(self._states):
            tensors |= named(str(number), merged(groups, merge))
        return tensors

    def load(self, tensors: Tensors) -> None:
        """Load the tensors of `state`."""
        for number, groups in enumerate(self._states):
            device = groups[0][0][0].device
            states = from_named(str(number), tensors, groups[0])
            self._states[number] = parted(states, self._groups, device)


def read(
    runs: Sequence[str], corpus: Corpus, groups: Sequence[range], device: torch.device
) -> Teachers | None:
    """Read the best checkpoints of runs, or named ones; return None for no runs.

    groups: as for `Teachers`.

    Raises: UsageError if one was trained on another text, or split differently, so that it might
        know the held-out text; as `checkpoint.read`.
    """
    models, digests, vocabulary = [], [], corpus.vocabulary
    for run in runs:
        saved = checkpoint.read(find_checkpoint(Path(run)))
        if saved.vocabulary != vocabulary:
            raise UsageError(
                f"the teacher {run} reads other symbols than this text has",
                "teach with runs that were trained on the same text, cut in the same way",
            )
        if saved.state.corpus != corpus.fingerprint:
            raise UsageError(
                f"the teacher {run} has learned from another text, or from other parts of this one",
                "teach with runs that were trained on the same text, cut in the same way",
            )
        model = CharModel.from_weights(
            saved.config.model, len(vocabulary), saved.weights, vocabulary.end
        )
        models.append(model.to(device))
        digests.append(promised(saved.folder, read_manifest(saved.folder), MODEL)[1])
    return Teachers(models, digests, groups) if models else None


def refuse_other(teachers: Teachers | None, digests: object) -> None:
    """Check on resuming that the teachers are unchanged. Raises: DataError."""
    own = teachers.digests if teachers else []
    if own != (digests or []):
        raise DataError(
            "the teachers of this run have changed: one has been trained further or exchanged",
            "name the original checkpoint (runs/NAME/checkpoints/step-N), or train again",
        )
