"""Estimate of a run's time and memory, measured on a few real steps."""

import math
import statistics
import time
from typing import Any

from charlm.backends.choice import Compiling
from charlm.backends.device import peak_memory
from charlm.config.schema import Config
from charlm.text.corpus import Corpus
from charlm.training.trainer import Trainer

WARM_UP, TRIALS = 3, 5
"""Steps before the measurement, and least number of measured steps."""
ENOUGH = 1.0
"""Least seconds of steps: a few milliseconds might fall into a busy moment."""


def estimate(config: Config, corpus: Corpus) -> dict[str, Any]:
    """Return size, speed and time of a run, measured with its own backend: kernels that are not
    compiled yet are compiled for this call only. Nothing is written.

    Units: seconds of training; passes over the train split; characters of it per second.

    Raises: as `Trainer`.
    """
    trainer = Trainer(config, corpus, compiling=Compiling.UNKEPT)
    took: list[float] = []
    while len(took) < WARM_UP + TRIALS or sum(took) < ENOUGH:
        began = time.perf_counter()
        trainer.learner.take_step().item()
        took.append(time.perf_counter() - began)
    train, seconds = config.train, statistics.median(took[WARM_UP:])
    window = train.lanes * train.sequence_length * trainer.characters_per_symbol
    return {
        "parameters": trainer.learner.model.parameter_count(),
        "vocabulary_size": len(corpus.vocabulary),
        "passes": train.steps / trainer.learner.batches.windows,
        "characters_per_second": window / seconds,
        "seconds": min(seconds * train.steps, train.seconds or math.inf),
        "peak_memory_bytes": peak_memory(trainer.learner.device),
        **trainer.environment(),
    }
