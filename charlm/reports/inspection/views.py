"""The analyses of a trained model: each method measures, and returns a view."""

import logging
import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from charlm.common import consent
from charlm.common.errors import DataError, UsageError
from charlm.comparison.truncation import trained_at
from charlm.config.clamps import Clamp
from charlm.config.schema import SampleConfig
from charlm.evaluation.mixture import ngram_distributions
from charlm.evaluation.ngram import ngram_of
from charlm.evaluation.reading import surprisals_from
from charlm.evaluation.scoring import network
from charlm.evaluation.surprisal import log_distributions
from charlm.inspection import brackets, context, gates, gradients, jacobian, losses
from charlm.inspection import toy as scalar
from charlm.inspection import units as following
from charlm.inspection.copies import Copied, shared_spans
from charlm.inspection.excerpt import Excerpt, characters, validation
from charlm.inspection.influence import influence
from charlm.inspection.inputs import read_labelled
from charlm.inspection.probe import probe
from charlm.inspection.truncation import truncation_errors
from charlm.models.ngram import NGram
from charlm.models.recurrent import CharModel
from charlm.reports.inspection.context import context_view
from charlm.reports.inspection.errors import errors_view
from charlm.reports.inspection.gates import gates_view
from charlm.reports.inspection.gradients import gradients_view
from charlm.reports.inspection.memorization import memorization_view
from charlm.reports.inspection.overview import overview
from charlm.reports.inspection.probe import probe_view
from charlm.reports.inspection.truncation import truncation_view
from charlm.reports.inspection.units import HELD, TEMPERATURE, units_view
from charlm.reports.view import View
from charlm.runs.checkpoint import Checkpoint
from charlm.runs.metrics import read_metrics
from charlm.runs.own_text import corpus_of
from charlm.sampling.clamped import ClampedEngine
from charlm.sampling.generate import Draw, Generation
from charlm.text.corpus import Corpus
from charlm.text.vocabulary import Symbols, Vocabulary

READ = 50_000
"""Symbols of the validation split that views of the loss read."""
LAGS = 200
SCHEMES = ("orthogonal", "xavier", "kaiming", "uniform")
WRITTEN = 10_000
"""Symbols of the sample that is searched for copies."""
INFLUENCED = 300

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inspection:
    """Analyses of a model with the text of its own run.

    Raises, in every method that reads the run's text: DataError if it has changed, or if its
    held-out part is too short.
    """

    name: str
    checkpoint: Checkpoint
    model: CharModel
    vocabulary: Vocabulary

    @cached_property
    def corpus(self) -> Corpus:
        """The run's text."""
        return corpus_of(self.checkpoint)

    @cached_property
    def ngram(self) -> NGram:
        """The n-gram model of the run's train split."""
        return ngram_of(self.checkpoint)

    @cached_property
    def train(self) -> Symbols:
        """The symbols of the train split."""
        return self.corpus.stretch("train").read()

    def held_out(self, least: int) -> Excerpt:
        """Return the validation split. Raises: DataError if it is shorter than `least`."""
        return validation(self.corpus, least)

    def _unit(self) -> str:
        """Return the name of a symbol."""
        return "character" if self.vocabulary.unit == "char" else "symbol"

    def _per_character(self) -> float:
        """Return the symbols per character of the validation text."""
        split = self.corpus.splits["validation"]
        return len(split) / split.characters

    def _refuse_bytes(self) -> None:
        """Refuse an analysis of letters. Raises: UsageError for a model that reads bytes."""
        if self.vocabulary.unit == "byte":
            raise UsageError(
                "this model reads bytes, and a byte is no letter or word",
                "look into a model that reads characters or jamo (data.unit)",
            )

    def overview(self, run: Path) -> View:
        """Show an overview of the run in a directory. If its text is missing or too short, its
        gates are left out."""
        weights, metrics = self.model.state_dict(), read_metrics(run)
        config = self.checkpoint.config
        return overview(self.name, config, self.vocabulary, weights, metrics, self._saturation())

    def _saturation(self) -> list[gates.Saturation]:
        """Measure the gates' saturation on validation text; return nothing if there is too little,
        or, with a warning, if the run's text is unavailable. The user is not asked for consent,
        because this is only one part."""
        try:
            with consent.asking(consent.refuse):
                own = self.corpus
        except DataError as error:
            log.warning(f"the gates are left out: {error.what} ({error.advice})")
            return []
        try:
            return gates.saturation(self.model, validation(own, 2 * gates.STEPS))
        except DataError:
            return []

    def gates(self, text: str) -> View:
        """Show every gate and state over a text. Raises: UsageError: see `gates_of`."""
        trace = gates.gates_of(self.model, self.vocabulary, text)
        saturated = self._saturation()
        config = self.model.config
        form = config.reset_gate if config.cell == "gru" else None
        return gates_view(self.name, trace, saturated, form)

    def units(self) -> View:
        """Show units that follow a property of the text, and the effect of holding the best."""
        self._refuse_bytes()
        halves, asked = following.read_units(self.model, self.held_out(following.LEAST))
        units = following.best_units(halves, asked)
        clamped = {unit: self._held(unit) for unit in units[:3]}
        return units_view(self.name, units, halves[1], clamped)

    def _held(self, unit: following.Unit) -> tuple[str, str, str]:
        """Return samples with a unit held low, left alone and held high."""
        low, free, high = (
            self._written(HELD, [] if value is None else [Clamp(unit.layer, unit.unit, value)])
            for value in (unit.low, None, unit.high)
        )
        return low, free, high

    def _written(self, length: int, clamps: list[Clamp]) -> str:
        config = SampleConfig(length=length, temperature=TEMPERATURE)
        generation = Generation(
            self.model,
            self.vocabulary,
            config,
            draw=Draw(threads=torch.get_num_threads()),
            make=lambda num: ClampedEngine(self.model, clamps, num),
        )
        return "".join(generation)

    def probe(self, path: Path) -> View:
        """Show the accuracy of a label predicted from the states. path: see `read_labelled`.

        Raises: DataError.
        """
        return probe_view(self.name, probe(self.model, self.vocabulary, read_labelled(path)))

    def gradients(self) -> View:
        """Show the gradient through time, and the recurrent Jacobian."""
        own = self.held_out(LAGS + 2)
        trained = gradients.gradient_by_lag(self.model, own, lags=LAGS)
        by_scheme = {
            scheme: gradients.gradient_by_lag(self._fresh(scheme), own, lags=LAGS)
            for scheme in SCHEMES
        }
        fresh = by_scheme[self.model.config.initialization]
        values = jacobian.singular_values(self.model, own)
        toy = scalar.toy(list(scalar.FACTORS), 60)
        return gradients_view(self.name, trained, fresh, by_scheme, values, toy)

    def _fresh(self, scheme: str) -> CharModel:
        config = self.model.config.model_copy(update={"initialization": scheme})
        model = CharModel(config, len(self.vocabulary), self.vocabulary.end)
        model.reset_parameters(self.checkpoint.config.train.seed)
        return model.requires_grad_(False).to(self.model.head.weight.device)

    def influence(self) -> tuple[list[str], NDArray[np.float64]]:
        """Return the beginning of the validation text, and the influence of its characters on its
        predictions; see `charlm.inspection.influence.influence`."""
        own = self.held_out(2).head(INFLUENCED)
        return own.characters(), influence(self.model, own.read())

    def context(self) -> View:
        """Show the use of context, and the predictions of closing brackets."""
        own = self.held_out(context.LENGTHS[5] + 2)
        use = context.context_use(self.model, own, self.train)
        piece = own.head(READ)
        closings = brackets.closings(piece.characters())
        rows = []
        if len(closings.places):
            rows = brackets.by_distance(closings, piece, *self._favourites(piece, closings.places))
        return context_view(
            self.name, use, rows, len(closings.places), self._unit(), self._per_character()
        )

    def _favourites(
        self, piece: Excerpt, places: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the most probable symbols at positions of a text, of the model and the n-grams."""
        logs = log_distributions(self.model, piece)
        counted, _ = ngram_distributions(self.ngram, piece)
        both = [one[torch.from_numpy(places)].argmax(1).numpy() for one in (logs, counted)]
        return both[0], both[1]

    def errors(self) -> View:
        """Show the causes of the loss."""
        self._refuse_bytes()
        own = self.held_out(1_000).head(READ)
        nats = network(self.model)(own)
        counted, _ = ngram_distributions(self.ngram, own)
        ngram_nats = surprisals_from(counted.double().numpy(), own)
        text = characters(self.vocabulary, self.train)
        known = Counter("".join(text[a:b]) for a, b in losses.words_of(text))
        costs = np.asarray(nats, np.float64)
        causes = losses.decompose(own.characters(), costs, ngram_nats, known)
        bits = float(costs.mean()) / math.log(2) * self._per_character()
        return errors_view(self.name, causes, bits, len(own))

    def memorization(self) -> View:
        """Show the spans that the model's own text shares with its training text."""
        config = SampleConfig(length=WRITTEN, temperature=1.0)
        generation = Generation(self.model, self.vocabulary, config)
        list(generation)
        symbols = np.array(generation.samples[0].indices, self.vocabulary.dtype)
        beside = self.held_out(1).head(WRITTEN)
        return memorization_view(
            self.name,
            Copied(
                "sample", characters(self.vocabulary, symbols), shared_spans(symbols, self.train)
            ),
            Copied("validation", beside.characters(), shared_spans(beside.read(), self.train)),
            self._unit(),
        )

    def truncation(self) -> View:
        """Show the error of truncated backpropagation, and its effect on training."""
        own = self.held_out(1)
        errors = truncation_errors(self.model, own)
        trained = list(trained_at(self.checkpoint.config, self.corpus))
        length = self.checkpoint.config.train.sequence_length
        return truncation_view(self.name, errors, trained, length)
