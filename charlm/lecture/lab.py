"""The models and texts of the lecture, made on first use.

Symbols: T time, B lanes.
"""

import logging
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from charlm.common.progress import track, within
from charlm.comparison.plan import matched_width, parameters
from charlm.config import loading
from charlm.config.schema import Config
from charlm.inspection.excerpt import Excerpt, validation
from charlm.models.recurrent import CharModel
from charlm.text.corpus import Corpus
from charlm.training.learner import learner_of
from charlm.training.prepare import PreparedRun, prepare_run
from charlm.training.request import request_run

CELLS = ("rnn", "lstm", "gru")
WIDTH, STEPS, RATES = 96, 800, {"rnn": 0.004, "lstm": 0.012, "gru": 0.012}
"""Units of the LSTM, which the others match in parameters; steps and learning rates, for a training
of seconds."""
SHORT = 250
"""Steps of a model that demonstrates a single effect."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A small trained model. bits: per character of validation text. seconds: of training."""

    model: CharModel
    bits: float
    seconds: float
    parameters: int


class Lab:
    """The trained models that the chapters measure.

    data: a text, or "" for the source of Python's standard library.
    """

    def __init__(self, data: str = "") -> None:
        self._data = data

    @property
    def name(self) -> str:
        """Name of the file; "" for the standard library."""
        return Path(self._data).name

    def config(self, *changes: str) -> Config:
        """Return the configuration of the lecture's models, with changes."""
        return self._resolved(*changes)[0]

    def _resolved(self, *changes: str) -> tuple[Config, Corpus]:
        base = [
            f"model.hidden_size={WIDTH}",
            "data.held_out_limit=30000",
            f"train.steps={STEPS}",
            "train.weight_average=0.98",
            "train.warmup_steps=50",
            "train.precision=float32",
            "train.device=cpu",
        ]
        flags = {"data.path": self._data} if self._data else {}
        layers = loading.load("compare", [*base, *changes], flags)
        resolved = prepare_run(request_run(layers))
        return resolved.config, resolved.corpus

    @cached_property
    def corpus(self) -> Corpus:
        """The text that the models are trained on."""
        return self._resolved()[1]

    @cached_property
    def held_out(self) -> Excerpt:
        """Its validation split."""
        return validation(self.corpus, 1_000)

    @cached_property
    def trained(self) -> dict[str, Trained]:
        """One model of each cell, all with as many parameters as the LSTM."""
        configs = (
            self.config("model.cell=lstm", f"train.learning_rate={RATES[cell]}") for cell in CELLS
        )
        return self.train_each(CELLS, configs, self.corpus)

    def train_each(
        self, cells: Sequence[str], configs: Iterable[Config], corpus: Corpus
    ) -> dict[str, Trained]:
        """Train one model of each cell, with as many parameters as the model of its `configs`."""
        models = {}
        for number, (cell, config) in enumerate(zip(cells, configs, strict=True)):
            log.info(f"training a small {cell}")
            with within("training", number, number + 1, len(cells)):
                matched = with_cell(config, cell, len(corpus.vocabulary))
                models[cell] = self.train(matched, corpus)
        return models

    @cached_property
    def relu(self) -> Trained:
        """An RNN with relu in place of tanh, and less training."""
        return self.train(self._short_rnn("relu"))

    @cached_property
    def tanh(self) -> Trained:
        """The same RNN with tanh."""
        return self.train(self._short_rnn("tanh"))

    def _short_rnn(self, nonlinearity: str) -> Config:
        log.info(f"training a small rnn with {nonlinearity}")
        return self.config(
            "model.cell=rnn",
            f"model.nonlinearity={nonlinearity}",
            "train.learning_rate=0.002",
            f"train.steps={SHORT}",
        )

    def train(self, config: Config, corpus: Corpus | None = None) -> Trained:
        """Train a model, and score it on validation."""
        corpus = corpus or self.corpus
        learner = learner_of(config, corpus)
        began = time.perf_counter()
        steps = config.train.steps
        for _ in track(range(steps), "training", steps):
            learner.take_step()
        seconds = time.perf_counter() - began
        score = learner.score(corpus, "validation")
        model = learner.eval_model.requires_grad_(False)
        return Trained(model, score.bits_per_character, seconds, model.parameter_count())

    def fresh(self, cell: str, scheme: str) -> CharModel:
        """Return an untrained model of a cell, initialised by a scheme."""
        config = self.config(f"model.cell={cell}", f"model.initialization={scheme}")
        model = CharModel(config.model, len(self.corpus.vocabulary), self.corpus.vocabulary.end)
        model.reset_parameters(0)
        return model.requires_grad_(False)

    def by_unit(self, text: str, units: tuple[str, ...]) -> dict[str, tuple[Trained, int]]:
        """Train a small model on a text for each unit; return it with the vocabulary's size."""
        models = {}
        for unit in units:
            log.info(f"training on Korean by {unit}")
            changes = [
                *(f"data.unit={unit}", "data.split=[0.8,0.2,0.0]", "data.minimum_count=1"),
                *("model.cell=gru", "model.hidden_size=64", "train.batch_size=8"),
                *("train.sequence_length=32", "train.steps=120", "train.warmup_steps=10"),
                *("train.weight_average=0.95", "train.precision=float32", "train.device=cpu"),
            ]
            prepared = prepared_text(text, "compare", changes)
            size = len(prepared.corpus.vocabulary)
            models[unit] = self.train(prepared.config, prepared.corpus), size
        return models

    @cached_property
    def hello(self) -> tuple[CharModel, CharModel, Corpus]:
        """The lecture's model of "hello" before and after training, and its text."""
        resolved = prepare_run(request_run(loading.load("hello", ["train.device=cpu"], {})))
        learner = learner_of(resolved.config, resolved.corpus)
        before = CharModel(
            resolved.config.model, len(resolved.corpus.vocabulary), resolved.corpus.vocabulary.end
        )
        before.load_state_dict(learner.model.state_dict())
        for _ in range(resolved.config.train.steps):
            learner.take_step()
        after = learner.eval_model
        return before.requires_grad_(False), after.requires_grad_(False), resolved.corpus


def prepared_text(text: str, preset: str, changes: Sequence[str]) -> PreparedRun:
    """Encode a text in memory, and resolve a changed preset for it; the cache stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        path.write_text(text, encoding="utf-8")
        layers = loading.load(preset, changes, {"data.path": str(path)})
        return prepare_run(request_run(layers, keep=False), keep=False)


def with_cell(config: Config, cell: str, vocabulary_size: int) -> Config:
    """Return a configuration for another cell, at the width that keeps the parameters."""
    budget = parameters(config.model, vocabulary_size)
    model = config.model.model_copy(update={"cell": cell})
    width = matched_width(model, vocabulary_size, budget, 0.05)
    matched = model.model_copy(update={"hidden_size": width})
    return config.model_copy(update={"model": matched})


def excerpt_text(lab: Lab, size: int) -> str:
    """Return a readable piece of the validation text from the start of a line."""
    text = "".join(lab.held_out.head(20 * size).characters())
    start = text.find("\n\n") + 2 if "\n\n" in text else 0
    return text[start : start + size]
