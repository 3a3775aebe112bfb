"""The trainer: truncated BPTT over lanes; evaluates, saves, resumes. Yields events, prints nothing.

Everything that decides the next step is in a checkpoint or derived from (seed, step), so a run
that is stopped and resumed ends with the same bits as one that was not.
"""

import copy
import hashlib
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm import __version__, machine
from charlm.checkpoint import Checkpoint, RunDirectory
from charlm.config import Config, to_toml
from charlm.corpus import Corpus
from charlm.errors import CheckpointError, DataError, DivergedError
from charlm.evaluate import Score, evaluate
from charlm.events import Evaluated, Event, Finished, Saved, Trained
from charlm.lanes import Lanes
from charlm.model import CharModel, detached
from charlm.optimizer import AdamW, update_average
from charlm.schedule import learning_rate

LN2 = math.log(2)
CHECKS_PER_EVALUATION = 10
"""Once the training loss is at the target, the target is checked so much oftener than eval_every."""


@dataclass
class Progress:
    """Where a run stands; part of every checkpoint."""

    step: int = 0
    cursor: int = 0
    """The next window of the lanes."""
    seconds: float = 0.0
    loss_sum: float = 0.0
    loss_count: int = 0
    """The losses (nats a symbol) of the steps since the last log."""
    logged_loss: float | None = None
    """Their mean at the last log."""
    evaluated_at: int = 0
    best: dict[str, Any] | None = None


class Trainer:
    """Trains one model on one corpus.

    Iterate over `train(run)`; `stop()` ends it after the step under way, with a checkpoint.
    """

    def __init__(self, config: Config, corpus: Corpus) -> None:
        settings = config.train
        self.config, self.corpus = config, corpus
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.device = machine.device(settings.device)
        self.precision = machine.precision(settings, self.device)
        if self.device.type == "cpu":
            machine.keep_freed_memory()
        split = corpus.train
        symbols = corpus.symbols[split.start : split.stop]
        self.lanes = Lanes(symbols, settings.batch_size, settings.sequence_length)
        self.characters_per_symbol = split.characters / len(split)
        self.model = CharModel(config.model, len(corpus.vocabulary))
        self.model.reset_parameters(settings.seed)
        self.model.to(self.device)
        self.judged = copy.deepcopy(self.model) if settings.weight_average else self.model
        """The model that is evaluated, sampled and scored."""
        beta1, beta2 = settings.adam_betas
        self.optimizer = AdamW(
            self.model, betas=(beta1, beta2), weight_decay=settings.weight_decay
        )
        self.states = self.model.initial_states(settings.batch_size)
        self.progress = Progress()
        self._loss_sum = torch.zeros((), device=self.device)
        self._stop_asked = False

    def stop(self) -> None:
        """Ask `train` to end after the step under way (safe in a signal handler)."""
        self._stop_asked = True

    # ---- the loop -----------------------------------------------------------------------------

    def train(self, run: RunDirectory) -> Iterator[Event]:
        """Train until the steps, the time, the target or a call of `stop` end it.

        Raises: DivergedError where loss or gradient is no longer finite (the checkpoints stay);
            CharlmError where a checkpoint cannot be written.
        """
        settings, progress = self.config.train, self.progress
        stopped_by = self._reason_to_stop()
        while not stopped_by:
            began = time.perf_counter()
            norm = self.take_step()
            stopped_by = self._reason_to_stop()
            log_due = progress.step % settings.log_every == 0
            checkpoint_due = progress.step % settings.checkpoint_every == 0
            evaluation_due = self._evaluation_due() or bool(stopped_by)
            if log_due or checkpoint_due or evaluation_due:  # only now wait for the device
                self._refuse_divergence(norm)
            progress.seconds += time.perf_counter() - began
            if log_due:
                yield self._trained(run, norm)
            if evaluation_due and stopped_by != "signal":
                yield self._evaluate(run)
                stopped_by = self._reason_to_stop()
            is_best = progress.best is not None and progress.best["step"] == progress.step
            if checkpoint_due or is_best or stopped_by:
                yield Saved(progress.step, self._save(run, best=is_best))
        summary = self.summary(run, stopped_by)
        run.write_summary(summary)
        yield Finished(summary)

    def take_step(self) -> Tensor:
        """One window forward, backward, clip, update. Returns the norm of the gradient."""
        settings, progress = self.config.train, self.progress
        inputs, targets = (w.to(self.device) for w in self.lanes.window(progress.cursor))
        with machine.products_in(self.precision, self.device):
            logits, states = self.model(
                inputs, self.states, dropout_seed=derived_seed(settings.seed, progress.step)
            )
        self.states = detached(states)
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(
            self.model.parameters(), settings.clip_norm or math.inf, foreach=True
        )
        self.optimizer.step(
            learning_rate(
                progress.step,
                peak=settings.learning_rate,
                warmup_steps=settings.warmup_steps,
                steps=settings.steps,
                final_fraction=settings.final_learning_rate,
            )
        )
        if self.judged is not self.model:
            update_average(
                self.judged.parameters(),
                self.model.parameters(),
                decay=settings.weight_average,
                step=progress.step,
            )
        self._loss_sum += loss.detach()
        progress.loss_count += 1
        progress.step += 1
        progress.cursor += 1
        if progress.cursor == self.lanes.windows:
            progress.cursor = 0
            self.states = self.model.initial_states(settings.batch_size)
        return norm

    def _refuse_divergence(self, norm: Tensor) -> None:
        loss = self._loss_sum.item() / max(1, self.progress.loss_count)
        if not (math.isfinite(loss) and math.isfinite(norm.item())):
            raise DivergedError(
                f"training diverged at step {self.progress.step}: "
                f"loss {loss:g}, gradient norm {norm.item():g}",
                "lower train.learning_rate or raise train.warmup_steps; "
                "the checkpoints written before are kept",
            )

    def _reason_to_stop(self) -> str:
        settings, progress = self.config.train, self.progress
        best, target = progress.best, settings.target_bits_per_character
        if target and best and best["bits_per_character"] <= target:
            return "target"
        if progress.step >= settings.steps:
            return "steps"
        if settings.seconds and progress.seconds >= settings.seconds:
            return "time"
        return "signal" if self._stop_asked else ""

    def _evaluation_due(self) -> bool:
        settings, progress = self.config.train, self.progress
        if progress.step % settings.eval_every == 0:
            return True
        target, logged = settings.target_bits_per_character, progress.logged_loss
        if not target or logged is None or self._bits(logged) > target:
            return False
        patience = max(1, settings.eval_every // CHECKS_PER_EVALUATION)
        return progress.step - progress.evaluated_at >= patience

    # ---- what happens between steps -------------------------------------------------------------

    def _trained(self, run: RunDirectory, norm: Tensor) -> Trained:
        settings, progress = self.config.train, self.progress
        loss = self._loss_sum.item() / progress.loss_count
        progress.logged_loss, progress.loss_count = loss, 0
        self._loss_sum.zero_()
        event = Trained(
            step=progress.step,
            characters=self._characters(),
            seconds=round(progress.seconds, 3),
            loss=loss,
            bits_per_character=self._bits(loss),
            learning_rate=learning_rate(
                progress.step - 1,
                peak=settings.learning_rate,
                warmup_steps=settings.warmup_steps,
                steps=settings.steps,
                final_fraction=settings.final_learning_rate,
            ),
            gradient_norm=norm.item(),
        )
        run.append_metrics({"kind": "train", **asdict(event)})
        return event

    def score(self, name: str) -> Score:
        """The judged model's score on a split of the corpus: stateful, in the run's precision."""
        split = self.corpus.splits[name]
        skipped = 1 if split.start == 0 else 0  # the text's first symbol follows nothing
        with machine.products_in(self.precision, self.device):
            return evaluate(
                self.judged,
                self.corpus.symbols,
                split.start + skipped,
                split.stop,
                characters=split.characters - skipped,
                bytes=split.bytes - skipped,
            )

    def _evaluate(self, run: RunDirectory) -> Evaluated:
        progress = self.progress
        began = time.perf_counter()
        score = self.score(self.corpus.evaluated)
        progress.evaluated_at = progress.step
        best = progress.best
        is_best = best is None or score.loss < best["loss"]
        if is_best:
            progress.best = {
                "step": progress.step,
                "loss": score.loss,
                "bits_per_character": score.bits_per_character,
            }
        event = Evaluated(
            step=progress.step,
            characters=self._characters(),
            seconds=round(progress.seconds, 3),
            loss=score.loss,
            bits_per_character=score.bits_per_character,
            is_best=is_best,
            took=time.perf_counter() - began,
        )
        row = asdict(event)
        del row["is_best"], row["took"]
        run.append_metrics({"kind": "eval", **row})
        return event

    def _characters(self) -> int:
        settings = self.config.train
        symbols = self.progress.step * settings.batch_size * settings.sequence_length
        return round(symbols * self.characters_per_symbol)

    def _bits(self, loss: float) -> float:
        """Nats a symbol as bits a character of the train split."""
        return loss / LN2 / self.characters_per_symbol

    def summary(self, run: RunDirectory, stopped_by: str) -> dict[str, Any]:
        """What `train --json` prints."""
        seconds = self.progress.seconds
        return {
            "run": str(run.path),
            "cell": self.config.model.cell,
            "parameters": self.model.parameter_count(),
            "recurrent_parameters": self.model.recurrent_parameters(),
            "vocabulary_size": len(self.corpus.vocabulary),
            "steps": self.progress.step,
            "characters": self._characters(),
            "seconds": round(seconds, 3),
            "characters_per_second": round(self._characters() / seconds, 1) if seconds else 0.0,
            "peak_memory_bytes": machine.peak_memory(self.device),
            "best": self.progress.best,
            "device": str(self.device),
            "precision": str(self.precision).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "stopped_by": stopped_by,
        }

    def place(self) -> str:
        """Where and how the products are computed, for a person."""
        name = str(self.precision).removeprefix("torch.")
        threads = f" with {torch.get_num_threads()} threads" if self.device.type == "cpu" else ""
        return f"{self.device}{threads} in {name}"

    def estimate(self, trials: int = 5) -> dict[str, Any]:
        """Speed and time of the run, from a few real steps; the trainer is spent afterwards."""
        took = []
        for _ in range(trials):
            began = time.perf_counter()
            self.take_step().item()
            took.append(time.perf_counter() - began)
        settings = self.config.train
        seconds = statistics.median(took)
        return {
            "parameters": self.model.parameter_count(),
            "vocabulary_size": len(self.corpus.vocabulary),
            "passes": settings.steps / self.lanes.windows,
            "characters_per_second": self._characters() / trials / seconds,
            "seconds": min(seconds * settings.steps, settings.seconds or math.inf),
            "peak_memory_bytes": machine.peak_memory(self.device),
        }

    # ---- checkpoints ------------------------------------------------------------------------------

    def _save(self, run: RunDirectory, *, best: bool) -> Any:
        self.progress.loss_sum = self._loss_sum.item()
        training = {f"optimizer.{name}": value for name, value in self.optimizer.state().items()}
        training |= self._carried()
        if self.judged is not self.model:
            training |= {f"weights.{name}": v for name, v in self.model.state_dict().items()}
        state = {
            "charlm": __version__,
            "step": self.progress.step,
            "progress": asdict(self.progress),
            "corpus": self.corpus.fingerprint,
            "versions": machine.versions(),
            "threads": torch.get_num_threads(),
            "precision": str(self.precision).removeprefix("torch."),
            "device": str(self.device),
            "config": to_toml(self.config),
            "vocabulary": self.corpus.vocabulary.to_json(),
        }
        return run.save(
            self.progress.step,
            weights={name: value.cpu() for name, value in self.judged.state_dict().items()},
            training={name: value.cpu().contiguous() for name, value in training.items()},
            state=state,
            best=best,
        )

    def _carried(self) -> dict[str, Tensor]:
        return {
            f"state.{layer}.{part}": value
            for layer, state in enumerate(self.states)
            for part, value in enumerate(state)
        }

    def resume(self, checkpoint: Checkpoint) -> list[str]:
        """Continue from a checkpoint. Returns what differs now, so that bits may differ too.

        Raises: DataError where the text is another one; CheckpointError where tensors do not fit.
        """
        state = checkpoint.state
        if state["corpus"] != self.corpus.fingerprint:
            raise DataError(
                f"the text has changed since {checkpoint.folder} was written",
                "train anew on the new text, or bring the old one back",
            )
        tensors = checkpoint.training()
        try:
            self.progress = Progress(**state["progress"])
            self._loss_sum.fill_(self.progress.loss_sum)
            self.judged.load_state_dict(checkpoint.weights)
            if self.judged is not self.model:
                prefix = "weights."
                self.model.load_state_dict(
                    {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
                )
            prefix = "optimizer."
            self.optimizer.load(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            )
            self.states = [
                tuple(
                    tensors[f"state.{layer}.{part}"].to(self.device) for part in range(len(state))
                )
                for layer, state in enumerate(self.states)
            ]
        except (KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"{checkpoint.folder} does not fit its own configuration: {error}",
                "use the run that charlm wrote",
            ) from None
        now = {**machine.versions(), "threads": torch.get_num_threads(), "device": str(self.device)}
        then = {**state["versions"], "threads": state["threads"], "device": state["device"]}
        return [f"{key} {then.get(key)} -> {now[key]}" for key in now if then.get(key) != now[key]]


def derived_seed(seed: int, step: int) -> int:
    """A seed for the randomness of one step, so that nothing random need be saved."""
    digest = hashlib.sha256(f"{seed}/{step}".encode()).digest()
    return int.from_bytes(digest[:6], "big") << 8  # room for one seed a layer below it
