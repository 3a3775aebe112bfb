"""One model learning: a step of truncated BPTT after another, and everything that decides the next.

Nothing here knows of files, evaluation or the clock. All randomness is derived from (seed, step).
"""

import copy
import hashlib

import torch
from torch import Tensor

from charlm.backends import choice
from charlm.backends.device import (
    autocast,
    keep_freed_memory,
    resolve_device,
    resolve_precision,
    to_device,
)
from charlm.config.schema import Config
from charlm.errors import DataError
from charlm.models.recurrent import CharModel, States
from charlm.text.batches import Lanes
from charlm.text.vocabulary import Symbols
from charlm.training.optimizer import AdamW, update_average
from charlm.training.schedule import learning_rate

Tensors = dict[str, Tensor]


class Learner:
    """Model, optimizer, lanes and the states that are carried from window to window.

    symbols: the train split. may_compile: see `choose.engine`.

    Raises: UsageError (no such device or engine), DataError (text too short).
    """

    def __init__(
        self, config: Config, symbols: Symbols, vocabulary_size: int, *, may_compile: bool = True
    ) -> None:
        settings = config.train
        self.settings = settings
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.device = resolve_device(settings.device)
        self.precision = resolve_precision(settings, self.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        if len(symbols) and int(symbols.max()) >= vocabulary_size:
            raise DataError(
                f"the encoded text holds symbol {int(symbols.max())}, the vocabulary has "
                f"{vocabulary_size}",
                "delete the cache, and train again",
            )
        self.lanes = Lanes(symbols, settings.batch_size, settings.sequence_length)
        self.model = CharModel(config.model, vocabulary_size)
        self.model.reset_parameters(settings.seed)
        self.model.to(self.device)
        self.judged = copy.deepcopy(self.model) if settings.weight_average else self.model
        """The model that is evaluated, sampled and scored: the average, where there is one."""
        self.engine = choice.engine(
            config.model, settings, self.device, self.precision, may_compile=may_compile
        )
        self.model.kernels = self.judged.kernels = self.engine.kernels
        self.model.replays = self.engine.replays
        beta1, beta2 = settings.adam_betas
        self.optimizer = AdamW(self.model, betas=(beta1, beta2), weight_decay=settings.weight_decay)
        self.states = self.model.initial_states(settings.batch_size)
        self.step = 0
        self.loss_sum = torch.zeros((), device=self.device)
        self.loss_count = 0
        """The losses since `take_loss`, in nats a symbol; on the device, so that no step waits."""

    def take_step(self) -> Tensor:
        """One window forward, backward, clip, update. Returns the norm of the gradient."""
        settings = self.settings
        inputs, targets = (to_device(w, self.device) for w in self.lanes.window(self._window()))
        seed = derived_seed(settings.seed, self.step)
        with autocast(self.precision, self.device):
            loss, self.states = self.model.learn(
                inputs, targets, self._opening_states(seed), dropout_seed=seed
            )
        norm = self.optimizer.step(self.learning_rate(self.step), clip_norm=settings.clip_norm)
        if self.judged is not self.model:
            update_average(
                self.judged.parameters(),
                self.model.parameters(),
                decay=settings.weight_average,
                step=self.step,
            )
        self.loss_sum += loss
        self.loss_count += 1
        self.step += 1
        return norm

    def learning_rate(self, step: int) -> float:
        """Of the step that is number `step`, counted from 0."""
        return learning_rate(
            step,
            peak=self.settings.learning_rate,
            warmup_steps=self.settings.warmup_steps,
            steps=self.settings.steps,
            final_fraction=self.settings.final_learning_rate,
        )

    def mean_loss(self) -> float:
        """Of the steps since `take_loss`; waits for the device."""
        return self.loss_sum.item() / max(1, self.loss_count)

    def take_loss(self) -> float:
        """The mean loss since the last call."""
        mean = self.mean_loss()
        self.loss_sum.zero_()
        self.loss_count = 0
        return mean

    def _window(self) -> int:
        """The next window of the lanes."""
        return self.step % self.lanes.windows

    def _opening_states(self, seed: int) -> States:
        """The states that the next window starts from: those carried over, for a few lanes zero.

        If zero states came at the start of the text only, a model might never recover from one:
        seen on tinyshakespeare, where 2 of 64 evaluation lanes that began at zero stayed at
        7 nats a character to their end.
        """
        if self._window() == 0:
            return self.model.initial_states(self.settings.batch_size)
        if not self.settings.state_reset:
            return self.states
        generator = torch.Generator().manual_seed(seed + 255)  # the layers' dropout comes first
        draws = torch.rand(self.settings.batch_size, 1, generator=generator)
        kept = to_device(draws >= self.settings.state_reset, self.device)
        return [tuple(part * kept.to(part.dtype) for part in state) for state in self.states]

    def state(self) -> dict[str, Tensor]:
        """The tensors that a resumed run needs beside the judged weights and the step."""
        tensors = {f"optimizer.{name}": value for name, value in self.optimizer.state().items()}
        for layer, state in enumerate(self.states):
            tensors |= {f"state.{layer}.{part}": value for part, value in enumerate(state)}
        if self.judged is not self.model:
            tensors |= {f"weights.{name}": v for name, v in self.model.state_dict().items()}
        tensors["loss_sum"] = self.loss_sum
        return tensors

    def load(self, step: int, loss_count: int, weights: Tensors, tensors: Tensors) -> None:
        """Take over what `state` returned after `step` steps, and the judged weights.

        Raises: KeyError or RuntimeError for tensors that do not fit.
        """
        self.step, self.loss_count = step, loss_count
        self.loss_sum.copy_(tensors["loss_sum"])
        self.judged.load_state_dict(weights)
        if self.judged is not self.model:
            self.model.load_state_dict(_below("weights.", tensors))
        self.optimizer.load(_below("optimizer.", tensors))
        self.states = [
            tuple(tensors[f"state.{layer}.{part}"].to(self.device) for part in range(len(state)))
            for layer, state in enumerate(self.states)
        ]


def _below(prefix: str, tensors: Tensors) -> Tensors:
    """The tensors whose names begin with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def derived_seed(seed: int, step: int) -> int:
    """A seed for the randomness of one step, so that nothing random need be saved."""
    digest = hashlib.sha256(f"{seed}/{step}".encode()).digest()
    return int.from_bytes(digest[:6], "big") << 8  # room for a seed of every layer
