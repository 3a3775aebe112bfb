"""The error of truncated backpropagation through time, and its cost in training.

Symbols: T steps of backpropagation, N symbols of a stretch, B stretches.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from charlm.backends.choice import Compiling, computation_of
from charlm.common.errors import DataError
from charlm.common.progress import track
from charlm.config.schema import Config
from charlm.evaluation.adaptation import learning_copy
from charlm.evaluation.reading import WARM_UP
from charlm.evaluation.surprisal import evaluate
from charlm.inspection.excerpt import Excerpt
from charlm.inspection.gates import lanes_of
from charlm.models.recurrent import CharModel
from charlm.text.corpus import Corpus
from charlm.training.learner import learner_of

STRETCH = 512
"""Symbols of backpropagation for the full gradient."""
ROUNDS, LANES = 4, 8
"""Number of gradients compared, and of stretches averaged in each."""
WINDOWS = (8, 32, 128)
"""Values of T in training."""
CHARACTERS, LANES_TRAINED = 500_000, 16
"""Characters and lanes of training at equal characters; at equal updates every T takes as many
steps as the longest then does."""
WIDTH = 96


@dataclass(frozen=True)
class TruncationError:
    """Difference between the gradient truncated after T steps and the full one, the mean of rounds.

    cosine: of the angle between them. norm: of the truncated one, relative to the full one's.
    """

    steps: int
    cosine: float
    norm: float


@dataclass(frozen=True)
class TrainedAt:
    """A small model trained with windows of T. loss: on validation, in nats per symbol."""

    steps: int
    updates: int
    characters: int
    seconds: float
    loss: float


def truncation_errors(model: CharModel, excerpt: Excerpt) -> list[TruncationError]:
    """Compare truncated gradients with the full one over stretches of real text.

    Both are of the same loss, that of all N symbols; the truncated one is the sum over windows of
    T, each from the final state of the last one. Raises: DataError for a short text.
    """
    needed = WARM_UP + STRETCH + 1
    if len(excerpt) < needed:
        raise DataError(
            f"the validation split has {len(excerpt):,} symbols, {needed:,} are needed",
            "train on a longer text",
        )
    computation = computation_of(learning_copy(model))
    device = model.head.weight.device
    read = lanes_of(excerpt, ROUNDS * LANES, needed).to(device)
    lengths = [2**n for n in range(STRETCH.bit_length()) if 2**n <= STRETCH]
    errors: dict[int, list[tuple[float, float]]] = {length: [] for length in lengths}

    def gradient(symbols: Tensor, length: int) -> Tensor:
        states = computation.model.initial_states(LANES)
        with torch.no_grad():
            _, states = computation.surprisals(symbols[:WARM_UP], symbols[1 : WARM_UP + 1], states)
        total = torch.zeros(computation.model.parameter_count(), dtype=torch.float64)
        for begin in range(WARM_UP, len(symbols) - 1, length):
            window = symbols[begin : begin + length + 1]
            states = [tuple(part.clone() for part in state) for state in states]
            _, states = computation.loss_and_gradients(window[:-1], window[1:], states)
            parts = [p.grad.flatten() for p in computation.model.parameters() if p.grad is not None]
            total += torch.cat(parts).cpu().double() * (len(window) - 1) / STRETCH
        return total

    for number in track(range(ROUNDS), "comparing gradients", ROUNDS):
        own = read[:, number::ROUNDS]
        full = gradient(own, STRETCH)
        for length in lengths:
            cut = gradient(own, length)
            cosine = float(torch.dot(cut, full) / (cut.norm() * full.norm()))
            errors[length].append((cosine, float(cut.norm() / full.norm())))
    return [
        TruncationError(length, *np.mean(values, axis=0).tolist())
        for length, values in errors.items()
    ]


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
    model = config.model.model_copy(
        update={"hidden_size": WIDTH, "num_layers": 1, "embedding_size": 32, "dropout": 0.0}
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
