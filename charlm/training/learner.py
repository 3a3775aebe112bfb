"""The learner: steps of truncated BPTT, and all state that determines the next step.

It knows nothing of files, evaluation or the clock. All randomness is derived from (seed, step).
"""

import copy
import hashlib

import torch
from torch import Tensor

from charlm.backends.choice import Compiling, choose_backend
from charlm.backends.device import autocast, resolve_precision, to_device
from charlm.config.schema import Config
from charlm.distributed.devices import device_of
from charlm.distributed.gradients import MeanGradients
from charlm.distributed.ranks import ALONE, Ranks
from charlm.evaluation.surprisal import distributions, evaluate
from charlm.evaluation.tally import Score
from charlm.models.dropout import Drop
from charlm.models.recurrent import CharModel, States
from charlm.native.model import SoftTargets
from charlm.native.steps import Hyperparameters, Learning, NativeSteps, StepNumbers
from charlm.text.batches import BatchStream
from charlm.text.corpus import Corpus
from charlm.text.symbols import SymbolSource
from charlm.text.vocabulary import Symbols
from charlm.training import teachers
from charlm.training.footprint import refuse_too_large
from charlm.training.lanes import Merge, all_lanes, from_named, groups_of, merged, named, parted
from charlm.training.optimizer import AdamW, share_of_new, update_average
from charlm.training.schedule import rate_at
from charlm.training.teachers import Teachers

Tensors = dict[str, Tensor]


class Learner:
    """Model, optimizer, lanes and the states that are carried from window to window.

    symbols: the train split. end: as for `CharModel`. compiling: as for `choose_backend`. ranks:
    the processes that train together; each has its share of the lanes, and all call the same
    methods.

    Raises: UsageError (no such device or backend, lanes that cannot be shared), DataError (text too
        short).
    """

    def __init__(
        self,
        config: Config,
        symbols: SymbolSource,
        vocabulary_size: int,
        *,
        end: int | None = None,
        compiling: Compiling = Compiling.KEPT,
        ranks: Ranks = ALONE,
    ) -> None:
        self.config, self.ranks = config.train, ranks
        self.teachers: Teachers | None = None
        """Models to distil, with `train.teacher_weight`."""
        self.device = device_of(ranks, self.config.device)
        self.precision = resolve_precision(self.config, self.device)
        self.batches = BatchStream(
            symbols, vocabulary_size, self.config.lanes, self.config.sequence_length
        )
        self.groups = groups_of(self.config, ranks)
        """Groups of lanes that are computed at once, each with states of its own."""
        lanes = len(self.groups[0])
        refuse_too_large(config, vocabulary_size, self.device, lanes, ranks.neighbours)
        self.model = CharModel(config.model, vocabulary_size, end)
        self.model.reset_parameters(self.config.seed)
        self.model.to(self.device)
        averaged = self.config.weight_average > 0
        self.eval_model = copy.deepcopy(self.model) if averaged else self.model
        """The model that is evaluated, sampled and scored: the average, if there is one."""
        self.backend = choose_backend(
            self.model, self.config, self.device, self.precision, compiling=compiling
        )
        self._training = self.backend.training(self.model)
        self.evaluation = self.backend.evaluation(self.eval_model)
        """Computation of the evaluation model."""
        beta1, beta2 = self.config.adam_betas
        self.optimizer = AdamW(
            dict(self.model.named_parameters()),
            betas=(beta1, beta2),
            weight_decay=self.config.weight_decay,
        )
        self.states = [self.model.initial_states(len(lanes)) for lanes in self.groups]
        """States of each group, carried from window to window."""
        self._gradients = self._mean_gradients()
        self.step = 0
        self.loss_sum = torch.zeros((), device=self.device)
        self.loss_count = 0
        """Losses since `pop_mean_loss`, in nats per symbol; on the device, so no step waits."""
        self._steps = self._steps_at_once()

    def score(self, corpus: Corpus, name: str) -> Score:
        """Score the evaluated model on a split, statefully: each rank reads its share."""
        return evaluate(self.evaluation, corpus, name, ranks=self.ranks)[1]

    def distributions(self, symbols: Symbols) -> Tensor:
        """Predict the symbol after each one of a short text. Shapes: [N, V]."""
        return distributions(self.eval_model, symbols)

    def take_step(self) -> Tensor:
        """Compute one window forward and backward, clip, update. Return the gradient's norm."""
        seed = derived_seed(self.config.seed, self.step)
        norm = self._step_by_parts(seed) if self._steps is None else self._step_at_once(seed)
        self.loss_count += 1
        self.step += 1
        return norm

    def _step_by_parts(self, seed: int) -> Tensor:
        """Compute the gradients, then update from them."""
        config = self.config
        loss = self._loss_and_gradients(seed)
        norm = self.optimizer.step(self.learning_rate(self.step), clip_norm=config.clip_norm)
        if self.eval_model is not self.model:
            update_average(
                self.eval_model.parameters(),
                self.model.parameters(),
                decay=config.weight_average,
                step=self.step,
            )
        self.loss_sum += loss
        return norm

    def _step_at_once(self, seed: int) -> Tensor:
        """Do the same in one call of the kernels: on small models Python took half of the time."""
        assert self._steps is not None
        self.optimizer.count += 1
        symbols = self.batches.symbols(self._window(), self.groups[0])
        norm, self.states[0] = self._steps.take(
            symbols,
            self.states[0],
            self._begin_anew(seed).to(torch.uint8),
            StepNumbers(
                seed,
                self.learning_rate(self.step),
                share_of_new(self.config.weight_average, self.step),
                int(self.optimizer.count),
            ),
            None if self.teachers is None else self._soft_targets(symbols[:-1], 0),
        )
        return norm

    def _steps_at_once(self) -> NativeSteps | None:
        """Return steps in one call; None where gradients are averaged."""
        config, averaged = self.config, self.eval_model is not self.model
        if self._gradients is not None:
            return None
        averages = dict(self.eval_model.named_parameters()) if averaged else None
        optimizer = self.optimizer
        return self.backend.steps(
            self.model,
            Learning(
                optimizer.parameters, optimizer.first, optimizer.second, averages, self.loss_sum
            ),
            Hyperparameters(optimizer.betas, config.weight_decay, config.clip_norm),
            (config.sequence_length, len(self.groups[0])),
            self.precision,
        )

    def _mean_gradients(self) -> MeanGradients | None:
        """Return the average over groups and ranks; None if there is one of each."""
        if self.ranks.size == 1 and len(self.groups) == 1:
            return None
        reduce = torch.bfloat16 if self.config.reduce == "bfloat16" else torch.float32
        parameters = list(self.model.parameters())
        return MeanGradients(parameters, self.ranks, groups=len(self.groups), reduce=reduce)

    def _loss_and_gradients(self, seed: int) -> Tensor:
        """Store the gradients of the next window in the parameters and return the mean loss, both
        over all lanes."""
        opening, means = self._opening_states(seed), []
        for number, (lanes, states) in enumerate(zip(self.groups, opening, strict=True)):
            window = self.batches.window(self._window(), lanes)
            inputs, targets = (to_device(w, self.device) for w in window)
            soft = self._soft_targets(inputs, number)  # in float32, in any precision of training
            if self._gradients is not None:
                self._gradients.begin(number)
            with autocast(self.precision, self.device):
                losses, self.states[number] = self._training.loss_and_gradients(
                    inputs,
                    targets,
                    states,
                    drop=Drop(seed, lanes),
                    soft=soft,
                    ready=None if self._gradients is None else self._gradients.add,
                )
            means.append(losses.mean())
        if self._gradients is None:
            return means[0]
        self._gradients.finish()
        return self.ranks.mean(torch.stack(means).mean())

    def _soft_targets(self, inputs: Tensor, group: int) -> SoftTargets | None:
        """Return the teachers' predictions for a group's next window; None without teachers."""
        if self.teachers is None or not self.config.teacher_weight:
            return None
        if self._window() == 0 and group == 0:
            self.teachers.start_over()
        return SoftTargets(self.teachers.probabilities(inputs, group), self.config.teacher_weight)

    def learning_rate(self, step: int) -> float:
        """Return the learning rate at `step`, counted from 0."""
        return rate_at(step, self.config)

    def mean_loss(self) -> float:
        """Return the mean loss of the steps since `pop_mean_loss`; waits for the device."""
        return self.loss_sum.item() / max(1, self.loss_count)

    def pop_mean_loss(self) -> float:
        """Return the mean loss since the last call, and reset it."""
        mean = self.mean_loss()
        self.loss_sum.zero_()
        self.loss_count = 0
        return mean

    def _window(self) -> int:
        """Return the number of the lanes' next window."""
        return self.step % self.batches.windows

    def _begin_anew(self, seed: int) -> Tensor:
        """Return the lanes whose next window begins with the initial states: all at the start of
        the text, later a few. Shape: [lanes] (bool).

        If initial states came at the start of the text only, a model might not learn to recover
        from them. On tinyshakespeare, 2 of 64 evaluation lanes, which begin with initial states,
        stayed at 7 nats per character to their end.
        """
        if self._window() == 0:
            return torch.ones(self.config.lanes, dtype=torch.bool)
        if not self.config.state_reset:
            return torch.zeros(self.config.lanes, dtype=torch.bool)
        generator = torch.Generator().manual_seed(seed + 255)  # the layers' dropout comes first
        return torch.rand(self.config.lanes, generator=generator) < self.config.state_reset

    def _opening_states(self, seed: int) -> list[States]:
        """Return the states at the start of each group's next window."""
        anew = self._begin_anew(seed)
        if not anew.any():
            return list(self.states)
        return [
            self._reset(states, to_device(anew[lanes.start : lanes.stop], self.device))
            for lanes, states in zip(self.groups, self.states, strict=True)
        ]

    def _reset(self, states: States, anew: Tensor) -> States:
        """Reset the states of some lanes."""
        pairs = zip(self.model.layers(), states, strict=True)
        return [cell.begin_anew(state, anew) for cell, state in pairs]

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a resumed run needs in addition to the evaluated weights and the
        step. All ranks call this together; the result does not depend on their number."""
        return self._state(self.ranks.gather_lanes)

    def _state(self, merge: Merge) -> dict[str, Tensor]:
        tensors = {f"optimizer.{name}": value for name, value in self.optimizer.state().items()}
        tensors |= named("state", merged(self.states, merge))
        if self.eval_model is not self.model:
            tensors |= {f"weights.{name}": v for name, v in self.model.state_dict().items()}
        if self.teachers is not None:
            tensors |= {f"teacher.{name}": v for name, v in self.teachers.state(merge).items()}
        tensors["loss_sum"] = self.loss_sum
        return tensors

    def load(self, step: int, loss_count: int, weights: Tensors, tensors: Tensors) -> None:
        """Load the tensors that `state` returned after `step` steps, and the evaluated weights.

        Raises: ValueError if their names, shapes or types do not match this learner.
        """
        refuse_unlike(tensors, self._state(all_lanes(self.config)))
        refuse_unlike(weights, self.eval_model.state_dict())
        self.step, self.loss_count = step, loss_count
        self.loss_sum.copy_(tensors["loss_sum"])
        self.eval_model.load_state_dict(weights)
        if self.eval_model is not self.model:
            self.model.load_state_dict(_below("weights.", tensors))
        self.optimizer.load(_below("optimizer.", tensors))
        if self.teachers is not None:
            self.teachers.load(_below("teacher.", tensors))
        states = from_named("state", tensors, self.states[0])
        self.states = parted(states, self.groups, self.device)


def learner_of(
    config: Config,
    corpus: Corpus,
    *,
    compiling: Compiling = Compiling.KEPT,
    ranks: Ranks = ALONE,
) -> Learner:
    """Return a learner at step 0 of a text's train split, with its teachers.

    Raises: as `Learner` and `teachers.read`.
    """
    train, split = config.train, corpus.train
    groups, device = groups_of(train, ranks), device_of(ranks, train.device)
    runs = teachers.read(train.teachers, corpus, groups, device)
    learner = Learner(
        config,
        corpus.symbols[split.start : split.stop],
        len(corpus.vocabulary),
        end=corpus.vocabulary.end,
        compiling=compiling,
        ranks=ranks,
    )
    learner.teachers = runs
    return learner


def learner_alone(config: Config, corpus: Corpus, ranks: Ranks) -> Learner:
    """Return a learner that computes the lanes of all ranks in this process, in groups as large as
    a rank's, to need no more memory. Raises: as `learner_of`."""
    train = config.train
    shared = {
        "batch_size": train.batch_size // ranks.size,
        "accumulate": train.accumulate * ranks.size,
    }
    return learner_of(config.model_copy(update={"train": train.model_copy(update=shared)}), corpus)


def refuse_unlike(found: Tensors, expected: Tensors) -> None:
    """Compare the names, shapes and types of tensors. Raises: ValueError for a difference."""
    for name in sorted({*found, *expected}):
        there, wanted = found.get(name), expected.get(name)
        if there is None or wanted is None:
            what = "is missing" if there is None else "is not one of its tensors"
            raise ValueError(f"{name} {what}")
        if (there.shape, there.dtype) != (wanted.shape, wanted.dtype):
            raise ValueError(
                f"{name} is {there.dtype} {list(there.shape)}, "
                f"expected {wanted.dtype} {list(wanted.shape)}"
            )


def _below(prefix: str, tensors: Tensors) -> Tensors:
    """Select the tensors whose names begin with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def derived_seed(seed: int, step: int) -> int:
    """Derive the seed for the randomness of one step, so that no generator need be saved."""
    digest = hashlib.sha256(f"{seed}/{step}".encode()).digest()
    return int.from_bytes(digest[:6], "big") << 8  # last byte: 0 outputs, 128 W_hh, 255 resets
