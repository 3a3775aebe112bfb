"""The trainer: truncated BPTT over lanes; evaluates, saves, resumes. Yields events, prints nothing.

Everything that determines the next step is in a checkpoint or derived from (seed, step), so a run
that is stopped and resumed ends with the same bits as an uninterrupted one.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from charlm.backends.choice import Compiling
from charlm.backends.device import autocast, changes, peak_memory, versions
from charlm.common.errors import CheckpointError, DataError, DivergedError
from charlm.common.version import __version__
from charlm.config.schema import Config, to_toml
from charlm.distributed.ranks import ALONE, Ranks
from charlm.evaluation.tally import Score
from charlm.runs.checkpoint import Checkpoint
from charlm.runs.directory import RunDirectory
from charlm.runs.manifest import name_of
from charlm.runs.state import SavedState
from charlm.sampling.generate import Draw, Generation, bits_per_character
from charlm.text.corpus import Corpus
from charlm.training.divergence import advice, rewind_to_good, spoilt
from charlm.training.events import (
    Environment,
    Evaluated,
    Event,
    Finished,
    Sampled,
    Saved,
    Summary,
    Trained,
)
from charlm.training.learner import derived_seed, learner_alone, learner_of
from charlm.training.state import TrainingState
from charlm.training.teachers import refuse_other

LN2 = math.log(2)
CHECKS_PER_EVALUATION = 10
"""Evaluations per `eval_every` steps once the training loss has reached the target."""


class Trainer:
    """The training of one model on one corpus.

    Iterate over `train(run)`; `stop()` ends it after the current step, with a checkpoint.

    compiling: as for `choose_backend`. ranks: the processes that train together; all iterate and
    yield the same events; only their leader writes.

    Raises: as `learner_of`.
    """

    def __init__(
        self,
        config: Config,
        corpus: Corpus,
        *,
        compiling: Compiling = Compiling.KEPT,
        ranks: Ranks = ALONE,
    ) -> None:
        self.config, self.corpus, self.ranks = config, corpus, ranks
        self.learner = learner_of(config, corpus, compiling=compiling, ranks=ranks)
        self.characters_per_symbol = corpus.train.characters / len(corpus.train)
        self.progress = TrainingState()
        self._stop_asked = False

    def stop(self) -> None:
        """Request that `train` end after the current step (safe in a signal handler)."""
        self._stop_asked = True

    # ---- the loop --------------------------------------------------------------------------------

    def train(self, run: RunDirectory) -> Iterator[Event]:
        """Train until the steps, the time, the target, the patience or a call of `stop` end it.

        Raises: DivergedError if loss or gradient is no longer finite (the checkpoints stay);
            DataError for a damaged text; CharlmError if a checkpoint cannot be written.
        """
        names = self.config.train.log if self.ranks.leads else []
        try:
            with run.copying_metrics(names, to_toml(self.config)):
                yield from self._train(run)
        except DivergedError as error:
            fresh = partial(learner_alone, self.config, self.corpus, self.ranks)
            good = self.ranks.from_first(self.ranks.leads and rewind_to_good(run, fresh))
            raise DivergedError(error.what, advice(run, good=good)) from None

    def _train(self, run: RunDirectory) -> Iterator[Event]:
        config, progress = self.config.train, self.progress
        stopped_by = self._reason_to_stop()
        while not stopped_by:
            began = time.perf_counter()
            norm = self.learner.take_step()
            progress.step = self.learner.step
            stopped_by = self._reason_to_stop()
            log_due = progress.step % config.log_every == 0
            checkpoint_due = progress.step % config.checkpoint_every == 0
            # A scheduled one is done even on a stop: a resumed run could not catch up on it.
            evaluation_due = self._evaluation_due() or stopped_by not in ("", "signal")
            if log_due or checkpoint_due or evaluation_due or stopped_by:  # it waits only now
                self._refuse_divergence(norm)
            progress.seconds += time.perf_counter() - began
            if log_due:
                yield self._trained(run, norm)
            if evaluation_due:
                yield from self._evaluate(run)
                stopped_by = self._reason_to_stop()
            is_best = progress.best is not None and progress.best["step"] == progress.step
            if checkpoint_due or is_best or stopped_by:
                yield Saved(progress.step, self._save(run, best=is_best))
        if not self.ranks.from_first(run.has_checkpoints()):  # ended before its first step
            yield Saved(progress.step, self._save(run, best=False))
        summary = self.summary(run, stopped_by)
        if self.ranks.leads:
            run.write_summary(summary)
        yield Finished(summary)

    def _refuse_divergence(self, norm: Tensor) -> None:
        loss = self.learner.mean_loss()
        if not (math.isfinite(loss) and math.isfinite(norm.item())):
            raise self._diverged(f"loss {loss:g}, gradient norm {norm.item():g}")

    def _diverged(self, seen: str) -> DivergedError:
        what = f"training diverged at step {self.progress.step}: {seen}"
        return DivergedError(what, "lower train.learning_rate")

    def _reason_to_stop(self) -> str:
        """Return the reason to stop now, "" if none. All ranks agree: they use the leader's clock,
        and a request to stop on any rank counts."""
        config, progress = self.config.train, self.progress
        stop, progress.seconds = self.ranks.agree(self._stop_asked, progress.seconds)
        best, target = progress.best, config.target_bits_per_character
        if target and best and best["bits_per_character"] <= target:
            return "target"
        if progress.step >= config.steps:
            return "steps"
        if config.seconds and progress.seconds >= config.seconds:
            return "time"
        if config.patience and progress.since_best >= config.patience:
            return "patience"
        return "signal" if stop else ""

    def _evaluation_due(self) -> bool:
        config, progress = self.config.train, self.progress
        if progress.step % config.eval_every == 0:
            return True
        target, recent = config.target_bits_per_character, progress.recent_loss
        if not target or recent is None or self._bits(recent) > target:
            return False
        interval = max(1, config.eval_every // CHECKS_PER_EVALUATION)
        return progress.step - progress.evaluated_at >= interval

    # ---- between steps ---------------------------------------------------------------------------

    def _trained(self, run: RunDirectory, norm: Tensor) -> Trained:
        loss = self.learner.pop_mean_loss()
        self.progress.record_loss(loss)
        event = Trained(
            **self._position(),
            loss=loss,
            bits_per_character=self._bits(loss),
            learning_rate=self.learner.learning_rate(self.progress.step - 1),
            gradient_norm=norm.item(),
        )
        self._record(run, "train", asdict(event))
        return event

    def score(self, name: str) -> Score:
        """Score the evaluated model on a split: stateful, in the run's precision."""
        with autocast(self.learner.precision, self.learner.device):
            return self.learner.score(self.corpus, name)

    def _evaluate(self, run: RunDirectory) -> Iterator[Event]:
        """Score the held-out split; then, if they are due, report a stall and draw a sample."""
        progress, config = self.progress, self.config.train
        began = time.perf_counter()
        score = self.score(self.corpus.evaluated)
        if not math.isfinite(score.loss):
            raise self._diverged(f"validation loss {score.loss:g}")
        is_best = progress.record_evaluation(score)
        event = Evaluated(
            **self._position(),
            loss=score.loss,
            bits_per_character=score.bits_per_character,
            is_best=is_best,
            took=time.perf_counter() - began,
        )
        row = asdict(event)
        del row["is_best"], row["took"]
        self._record(run, "eval", row)
        yield event
        if stalled := progress.stalled():
            yield stalled
        due = config.sample_every and progress.evaluations % config.sample_every == 0
        if due and self.ranks.leads:
            yield self._sample(run)

    def _sample(self, run: RunDirectory) -> Sampled:
        """Draw a sample from the evaluated model, without effect on the training."""
        config, vocabulary = self.config, self.corpus.vocabulary
        options = config.sample.model_copy(update={"length": config.train.sample_length})
        seed = derived_seed(config.train.seed, self.progress.step)
        num = 1 if vocabulary.end is None else 5  # records, a line each
        draw = Draw(seed=seed, num=num)
        generation = Generation(self.learner.eval_model, vocabulary, options, draw=draw)
        sample = generation.joined()
        event = Sampled(
            **self._position(),
            loss=sample.nats / len(sample.indices),
            bits_per_character=bits_per_character(sample, vocabulary),
            text=sample.text.encode("utf-8", "replace").decode(),
        )
        self._record(run, "sample", asdict(event))
        return event

    def _record(self, run: RunDirectory, kind: str, row: dict[str, Any]) -> None:
        """Write a line of metrics."""
        if self.ranks.leads:
            run.append_metrics({"kind": kind, **row})

    def _position(self) -> dict[str, Any]:
        """Return the position in the training, in the keys common to all events."""
        seconds = round(self.progress.seconds, 3)
        return {"step": self.progress.step, "characters": self._characters(), "seconds": seconds}

    def _characters(self) -> int:
        config = self.config.train
        symbols = self.progress.step * config.lanes * config.sequence_length
        return round(symbols * self.characters_per_symbol)

    def _bits(self, loss: float) -> float:
        """Convert nats per symbol to bits per character of the train split."""
        return loss / LN2 / self.characters_per_symbol

    def summary(self, run: RunDirectory, stopped_by: str) -> Summary:
        """Return the output of `train --json`."""
        seconds, model = self.progress.seconds, self.learner.model
        return {
            "run": str(run.path),
            "cell": self.config.model.cell,
            "parameters": model.parameter_count(),
            "recurrent_parameters": model.recurrent_parameters(),
            "vocabulary_size": len(self.corpus.vocabulary),
            "steps": self.progress.step,
            "characters": self._characters(),
            "seconds": round(seconds, 3),
            "characters_per_second": round(self._characters() / seconds, 1) if seconds else 0.0,
            "peak_memory_bytes": peak_memory(self.learner.device),
            "best": self.progress.best,
            **self.environment(),
            "stopped_by": stopped_by,
        }

    def environment(self) -> Environment:
        """Return the device, backend and precision of the computation."""
        return {
            "device": str(self.learner.device),
            "precision": str(self.learner.precision).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "backend": self.learner.backend.name,
        }

    # ---- checkpoints -----------------------------------------------------------------------------

    def _save(self, run: RunDirectory, *, best: bool) -> Path:
        weights, training = self.learner.eval_model.state_dict(), self.learner.state()
        if name := spoilt(weights | training):
            raise self._diverged(f"{name} has values that are no finite numbers")
        self.progress.loss_count = self.learner.loss_count
        teachers = self.learner.teachers
        state = SavedState(
            charlm=__version__,
            step=self.progress.step,
            progress=asdict(self.progress),
            corpus=self.corpus.fingerprint,
            versions=versions(),
            **self.environment(),
            processes=self.ranks.size,
            config=to_toml(self.config),
            vocabulary=self.corpus.vocabulary.to_json(),
            teachers=teachers.digests if teachers else None,
        )
        if not self.ranks.leads:
            return run.checkpoints / name_of(self.progress.step)
        return run.save(
            self.progress.step,
            weights={n: v.cpu() for n, v in weights.items()},
            training={n: value.cpu().contiguous() for n, value in training.items()},
            state=state,
            best=best,
        )

    def resume(self, checkpoint: Checkpoint) -> list[str]:
        """Continue from a checkpoint; return the changes of environment, which may change bits.

        Raises: DataError if the text or a teacher is a different one; CheckpointError if tensors do
            not fit.
        """
        state = checkpoint.state
        if state.corpus != self.corpus.fingerprint:
            raise DataError(
                f"the text has changed since {checkpoint.folder} was written, or is another one: "
                f"{self.config.data.path}",
                "name the text that it was trained on (--data PATH), or train again",
            )
        refuse_other(self.learner.teachers, state.teachers)
        tensors = checkpoint.training()
        try:
            progress = TrainingState.from_json(state.progress)
            if progress.step != checkpoint.step:
                raise ValueError(f"step {progress.step} in the state of {checkpoint.step}")
            if checkpoint.vocabulary != self.corpus.vocabulary:
                raise ValueError("the vocabulary is not that of the text")
            self.learner.load(progress.step, progress.loss_count, checkpoint.weights, tensors)
        except (ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{checkpoint.folder} does not fit its own configuration: {error}",
                "use the run that charlm wrote",
            ) from None
        self.progress = progress
        now = versions() | self.environment() | {"processes": self.ranks.size}
        return changes(state.conditions(), now)
