"""Analysis of finished runs: test score, sampling speed, a sample, gradient by lag."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from charlm.backends.device import resolve_device
from charlm.backends.step import TorchComputation
from charlm.common.errors import DataError
from charlm.comparison.answers import Answers, answer
from charlm.comparison.plan import PlannedRun
from charlm.comparison.reuse import evaluations, summary
from charlm.evaluation.surprisal import evaluate
from charlm.evaluation.tally import Score
from charlm.inspection.gradients import gradient_by_lag
from charlm.models.recurrent import CharModel
from charlm.runs import checkpoint
from charlm.runs.checkpoint import Checkpoint
from charlm.runs.directory import RunDirectory
from charlm.sampling.generate import Draw, Generation, Sample
from charlm.text.corpus import Corpus
from charlm.text.files.tasks import TIMES, learned

SPEED_SYMBOLS = 400
"""Symbols sampled to measure speed: about a tenth of a second."""
SPEED_ROUNDS = 3
BLOCKS = 50
"""Blocks of the validation split, of as many symbols each."""
SAMPLE_SYMBOLS = 320
PROMPT_SYMBOLS = 200
"""Symbols at the start of the validation split from which a prompt is chosen."""

Gradients = dict[str, list[float]]


@dataclass(frozen=True)
class RunAnalysis:
    """A finished run. Units: bits per character; sample_speed: characters per second, for a single
    text on one thread. trained, fresh: see `gradient_by_lag`; empty if the text is too short or a
    gradient is not finite. answers: to the tests of a task, by their length, or none."""

    planned: PlannedRun
    summary: dict[str, Any]
    curve: list[dict[str, Any]]
    sample_speed: float
    sample: str
    trained: Gradients
    fresh: Gradients
    answers: list[Answers]
    blocks: list[float]
    """Bits per character of each block of the validation split, in float32."""
    test_bits: float | None = None
    """Of the test split; None until all choices are made, or without one."""


Opened = tuple[Checkpoint, CharModel]


def load_run(planned: PlannedRun, which: str = "best") -> Opened:
    """Load a finished run's checkpoint and model. which: as for `RunDirectory.find`. Raises:
    CheckpointError if damaged."""
    saved = checkpoint.read(RunDirectory(planned.path).find(which))
    model = CharModel.from_weights(
        saved.config.model, len(saved.vocabulary), saved.weights, saved.vocabulary.end
    )
    return saved, model


def writing_speeds(opened: Sequence[Opened]) -> list[float]:
    """Measure every model's characters per second: the median of interleaved rounds."""
    rounds = [[_speed(saved, model) for saved, model in opened] for _ in range(SPEED_ROUNDS)]
    return [statistics.median(values) for values in zip(*rounds, strict=True)]


def analyse(
    finished: Sequence[PlannedRun],
    opened: Sequence[Opened],
    speeds: Sequence[float],
    corpus: Corpus,
    prompt: str,
    blocks: Sequence[list[float]],
) -> list[RunAnalysis]:
    """Analyse finished runs. blocks: by `block_bits`. Raises: CheckpointError if one is damaged."""
    return [
        RunAnalysis(
            planned,
            summary(planned),
            evaluations(planned),
            speed,
            as_utf8(_write(saved, model, prompt, SAMPLE_SYMBOLS, seed=0).text),
            _gradients(model, corpus),
            _gradients(_fresh(planned, corpus), corpus),
            _answers(planned),
            own,
        )
        for planned, (saved, model), speed, own in zip(
            finished, opened, speeds, blocks, strict=True
        )
    ]


def block_bits(planned: PlannedRun, model: CharModel, corpus: Corpus) -> list[float]:
    """Return the bits per character of blocks of the validation split; their mean is the score."""
    each, score = _evaluated(planned, model, corpus, "validation")
    parts = np.array_split(each.cpu().numpy().astype(np.float64), min(BLOCKS, len(each)))
    nats = np.array([part.mean() for part in parts]) * len(each) / score.characters
    bits = nats / math.log(2)
    # The blocks leave out the cost of unknown characters and the rest of the division: both are the
    # same for all cells.
    rounded: list[float] = np.round(bits + score.bits_per_character - bits.mean(), 6).tolist()
    return rounded


def test_bits(planned: PlannedRun, corpus: Corpus) -> float:
    """Score a finished run on the test split, in float32, like `charlm score RUN --split test`.

    Raises: CheckpointError if it is damaged.
    """
    _, model = load_run(planned)
    return _evaluated(planned, model, corpus, "test")[1].bits_per_character


def prompt_from(corpus: Corpus) -> str:
    """Choose a line of the validation split as the prompt for every cell."""
    read = corpus.stretch("validation").head(PROMPT_SYMBOLS).read()
    text = corpus.vocabulary.decode(read.tolist())
    lines = [line.strip() for line in text.split("\n")[1:-1]]
    return as_utf8(next((line for line in lines if 8 <= len(line) <= 60), text[:24].strip()))


def as_utf8(text: str) -> str:
    """Replace invalid UTF-8 in a text, such as the bytes of a character cut in two."""
    return text.encode("utf-8", "replace").decode()


def _fresh(planned: PlannedRun, corpus: Corpus) -> CharModel:
    """Make the untrained model, as before its first step."""
    model = CharModel(planned.config.model, len(corpus.vocabulary), corpus.vocabulary.end)
    model.reset_parameters(planned.config.train.seed)
    return model.requires_grad_(False)


def _speed(saved: Checkpoint, model: CharModel) -> float:
    began = time.perf_counter()
    written = _write(saved, model, "", SPEED_SYMBOLS, seed=1)
    characters = len(saved.vocabulary.decode(written.indices))
    return characters / (time.perf_counter() - began)


def _write(saved: Checkpoint, model: CharModel, prompt: str, length: int, *, seed: int) -> Sample:
    options = saved.config.sample.model_copy(update={"length": length})
    generation = Generation(model, saved.vocabulary, options, prompt, Draw(seed))
    for _ in generation:
        pass
    return generation.samples[0]


def _evaluated(
    planned: PlannedRun, model: CharModel, corpus: Corpus, split: str
) -> tuple[Tensor, Score]:
    """Return a split's surprisals and score, in float32, on the run's device."""
    model.to(resolve_device(planned.config.train.device))
    found = evaluate(TorchComputation(model), corpus, split)
    model.cpu()
    return found


def _answers(planned: PlannedRun) -> list[Answers]:
    """Answer the tests of the task that a run has learned, if any, in float32 on the CPU.

    The last weights answer, not those that are best on validation, where the random symbols of the
    questions outweigh the answers.
    """
    if (task := learned(planned.config.data)) is None:
        return []
    saved, model = load_run(planned, "latest")
    tests = map(task.tests, TIMES)
    return [answer(model, saved.vocabulary, test, ends=task.ends) for test in tests]


def _gradients(model: CharModel, corpus: Corpus) -> Gradients:
    try:
        by_lag = gradient_by_lag(model, corpus.stretch("validation"))
        means = {part: one.means() for part, one in by_lag.items()}
    except DataError:
        return {}
    if not all(math.isfinite(value) for values in means.values() for value in values):
        return {}
    return means
