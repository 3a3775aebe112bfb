"""Training with truncated backpropagation of different lengths.

Symbols: T steps of backpropagation.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from charlm.backends.choice import Compiling
from charlm.common.progress import track
from charlm.config.schema import Config
from charlm.evaluation.surprisal import evaluate
from charlm.text.corpus import Corpus
from charlm.training.learner import learner_of

WINDOWS = (8, 32, 128)
"""Values of T in training."""
CHARACTERS, LANES_TRAINED = 500_000, 16
"""Characters and lanes of training at equal characters; at equal updates every T takes as many
steps as the longest then does."""
WIDTH = 96


@dataclass(frozen=True)
class TrainedAt:
    """A small model trained with windows of T. loss: on validation, in nats per symbol."""

    steps: int
    updates: int
    characters: int
    seconds: float
    loss: float


def trained_at(config: Config, corpus: Corpus) -> Iterator[tuple[str, TrainedAt]]:
    """Train small models of a run's cell with windows of different T, all else equal; yield the
    quantity that is equal ("updates" or "characters") and the result.

    The text, its order and the cell are the run's; the width and the length of training are small.
    """
    per_update = {T: LANES_TRAINED * T for T in WINDOWS}
    updates = CHARACTERS // per_update[max(WINDOWS)]
    for alike in ("updates", "characters"):
        for T in WINDOWS:
            steps = updates if alike == "updates" else CHARACTERS // per_update[T]
            if alike == "characters" and max(WINDOWS) == T:
                continue  # the same run as above
            yield alike, _trained(config, corpus, T, steps)


def _trained(config: Config, corpus: Corpus, length: int, steps: int) -> TrainedAt:
    without = {"dropout": 0.0, "weight_dropout": 0.0}
    model = config.model.model_copy(
        update={"hidden_size": WIDTH, "num_layers": 1, "embedding_size": 32, **without}
    )
    train = config.train.model_copy(
        update={
            "batch_size": LANES_TRAINED,
            "sequence_length": length,
            "steps": steps,
            "learning_rate": 0.01,
            "warmup_steps": min(50, steps // 10),
            "weight_average": 0.99,
            "device": "cpu",
        }
    )
    own = Config(data=config.data, model=model, train=train)
    learner = learner_of(own, corpus, compiling=Compiling.NEVER)
    began = time.perf_counter()
    for _ in track(range(steps), "training", steps):
        learner.take_step()
    seconds = time.perf_counter() - began
    _, score = evaluate(learner.evaluation, corpus, "validation")
    return TrainedAt(length, steps, steps * LANES_TRAINED * length, seconds, score.loss)
