"""Dynamic evaluation: a model that continues to learn from the text it reads.

Each window is predicted first and learned from afterwards, so that no prediction depends on the
symbol itself. The score is not that of the trained weights, and is always reported separately.

Symbols: T the length of a window.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.backends.choice import built_kernels, computation_of
from charlm.backends.step import Computation, parts_of
from charlm.evaluation.reading import WARM_UP, ReadCallback, ignore
from charlm.models.recurrent import CharModel, States
from charlm.native.adapting import NativeAdapter
from charlm.text.stretch import Stretch

Squares = list[Tensor]
"""The mean square of every weight's gradient over the windows of a text, in parameter order."""

SQUARED_ON, TUNED_ON = 20_000, 10_000
"""Symbols at the end of the train split that the mean squares, and the pace, are computed on."""
RATES, DECAYS = (3e-4, 6e-4, 1.2e-3), (0.0, 3e-3)
"""Values to try: every rate with `Pace.decay`, then the other decays with the best rate."""
DAMPING = 1e-3
"""Added to each root of a mean square, in units of their mean."""
LONGEST = 1.5
"""Largest norm of a gradient, in units of its root mean square on train. On tinyshakespeare an
LSTM reaches 1.376 nats without a limit, 1.297 with it: without it, single windows spoilt the
weights for thousands of symbols. Limits of 1.0 and 2.5 are within 0.003 of this one."""


@dataclass(frozen=True)
class Pace:
    """The pace of adaptation.

    window: T, symbols between two updates. rate: learning rate. decay: rate of decay towards the
    trained weights.
    """

    window: int = 16
    rate: float = 6e-4
    decay: float = 1e-3


class AdaptiveReader:
    """A `Reader` of surprisals that reads in order and learns from each window once it is read.

        w <- w - rate g / (sqrt(s) + e) + decay r (w_0 - w);   r = sqrt(s) / mean(sqrt(s))

    g is the window's gradient, clipped to `LONGEST`; s is the mean square of such gradients on the
    train split; w_0 are the trained weights. Each call continues with the state and the weights of
    the call before; `model` has these weights.

    squares: see `mean_squares`.

    Source: Krause et al. 2018 (arXiv 1709.07432), dynamic evaluation with an RMS global prior.
    """

    def __init__(self, model: CharModel, squares: Squares, pace: Pace) -> None:
        self.model, self.pace = learning_copy(model), pace
        self._trained, self._squares = model, squares
        roots = [s.sqrt() for s in squares]
        mean = float(sum(root.sum() for root in roots) / sum(root.numel() for root in roots))
        self._adapter = _fastest_adapter(
            self.model,
            [pace.rate / (root + DAMPING * mean) for root in roots],
            [(pace.decay * root / mean).clamp(max=1.0) for root in roots],
            window=pace.window,
            longest=LONGEST * math.sqrt(sum(float(s.sum()) for s in squares)),
        )
        self._is_warm = False

    def anew(self) -> "AdaptiveReader":
        """Return a reader for another text, at the same pace, that begins with the trained weights
        and the initial state."""
        return AdaptiveReader(self._trained, self._squares, self.pace)

    def __call__(
        self, stretch: Stretch, *, window: int = 0, advanced: ReadCallback = ignore
    ) -> Tensor:
        result = torch.full((len(stretch),), math.log(self.model.vocabulary_size))
        for place, losses, _ in self._read(stretch, window, advanced):
            result[place] = losses.cpu()
        return result

    def distributions(
        self, stretch: Stretch, *, window: int = 0, advanced: ReadCallback = ignore
    ) -> Tensor:
        """Read in the same way; return ln p of every symbol at each position. See `Reader`."""
        V = self.model.vocabulary_size
        result = torch.full((len(stretch), V), -math.log(V))
        for place, _, logits in self._read(stretch, window, advanced):
            result[place] = logits.log_softmax(-1).cpu()
        return result

    def _read(
        self, stretch: Stretch, window: int, advanced: ReadCallback
    ) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Read and learn, window by window. Yield the place of each, and its surprisals and logits
        before the update. Shapes: [T], [T, V]."""
        assert not window, "a model that learns as it reads keeps its state"
        if not self._is_warm:
            self._warm_up(stretch)
        try:
            for piece, inputs, targets in _windows(self.model, stretch, self.pace.window):
                losses, logits = self._adapter.adapt(inputs.squeeze(1), targets.squeeze(1))
                yield piece.within(stretch), losses, logits
                advanced(len(losses))
        finally:
            self._adapter.write_back()

    def _warm_up(self, stretch: Stretch) -> None:
        """Read the text before the first scored symbol."""
        computation, states = computation_of(self.model), self.model.initial_states(1)
        context = Stretch(stretch.symbols, 1, stretch.with_context().start).tail(WARM_UP)
        for _, inputs, targets in _windows(self.model, context, WARM_UP):
            _, states = computation.surprisals(inputs, targets, states)
        self._adapter.carry(states)
        self._is_warm = True


class _Adapter(Protocol):
    """A learner from windows of one text. See `NativeAdapter`."""

    def adapt(self, symbols: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]: ...

    def carry(self, states: States) -> None: ...

    def write_back(self) -> None: ...


class _TorchAdapter:
    """Adaptation by torch, on any device, in a model's own weights. See `NativeAdapter`."""

    def __init__(
        self, model: CharModel, steps: list[Tensor], pulls: list[Tensor], longest: float
    ) -> None:
        self._model, self._steps, self._pulls, self._longest = model, steps, pulls, longest
        self._weights: list[Tensor] = list(model.parameters())
        self._trained = [p.detach().clone() for p in self._weights]
        self._states = model.initial_states(1)

    def adapt(self, symbols: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits, after = self._model(symbols.unsqueeze(1), self._states)
        logits = logits.squeeze(1).float()
        losses = F.cross_entropy(logits, targets, reduction="none")
        gradients = torch.autograd.grad(losses.mean(), self._weights)
        self._states = [tuple(part.detach() for part in state) for state in after]
        self._update(list(gradients))
        return losses.detach(), logits.detach()

    def carry(self, states: States) -> None:
        self._states = states

    def write_back(self) -> None:
        """Do nothing: the weights are the model's."""

    @torch.no_grad()
    def _update(self, gradients: list[Tensor]) -> None:
        norm = float(nn.utils.get_total_norm(gradients))
        share = min(1.0, self._longest / norm) if norm else 1.0
        torch._foreach_addcmul_(self._weights, gradients, self._steps, value=-share)
        for weight, trained, pull in zip(self._weights, self._trained, self._pulls, strict=True):
            weight.lerp_(trained, pull)


def _fastest_adapter(
    model: CharModel, steps: list[Tensor], pulls: list[Tensor], *, window: int, longest: float
) -> _Adapter:
    """Return an adapter by the native kernels if they are built, else by torch."""
    kernels = built_kernels(model)
    if kernels is None:
        return _TorchAdapter(model, steps, pulls, longest)
    parts = [
        parts_of(model),
        *(parts_of(_with_weights(model, weights)) for weights in (steps, pulls)),
    ]
    return NativeAdapter(kernels, *parts, window=window, longest=longest)


@torch.no_grad()
def _with_weights(model: CharModel, weights: list[Tensor]) -> CharModel:
    """Return a copy of a model with other weights, in the order of its parameters."""
    other = copy.deepcopy(model)
    for parameter, weight in zip(other.parameters(), weights, strict=True):
        parameter.copy_(weight)
    return other


def adaptive_reader(model: CharModel, train: Stretch) -> AdaptiveReader:
    """Return a reader for dynamic evaluation, its pace tuned on the end of the train split.

    The text to be scored is not used. train: the train split.
    """
    pace = Pace()
    squared_on, tuned_on = (Stretch.of(train.tail(most).read()) for most in (SQUARED_ON, TUNED_ON))
    squares = mean_squares(computation_of(learning_copy(model)), squared_on, pace.window)

    def cost(tried: Pace) -> float:
        reader = AdaptiveReader(model, squares, tried)
        total = reader(tuned_on).sum().item()
        return total if np.isfinite(total) else np.inf

    pace = min((replace(pace, rate=rate) for rate in RATES), key=cost)
    pace = min((pace, *(replace(pace, decay=decay) for decay in DECAYS)), key=cost)
    return AdaptiveReader(model, squares, pace)


def learning_copy(model: CharModel) -> CharModel:
    """Return a copy of a model whose weights require gradients."""
    return copy.deepcopy(model).requires_grad_(True)


def mean_squares(computation: Computation, stretch: Stretch, window: int) -> Squares:
    """Return the mean square of each weight's gradient over the windows of a stretch.

    computation: of a model whose weights require gradients.
    """
    parameters = list(computation.model.parameters())
    sums = [torch.zeros_like(p) for p in parameters]
    states, count = computation.model.initial_states(1), 0
    for _, inputs, targets in _windows(computation.model, stretch, window):
        _, states = computation.loss_and_gradients(inputs, targets, states)
        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_addcmul_(sums, gradients, gradients)
        count += 1
    torch._foreach_div_(sums, max(1, count))
    return sums


def _windows(
    model: CharModel, stretch: Stretch, length: int
) -> Iterator[tuple[Stretch, Tensor, Tensor]]:
    """Yield the windows of a stretch, without the text's first symbol, and the inputs and targets
    of each, [T, 1] on the model's device."""
    device = model.head.weight.device
    for piece in stretch.with_context().pieces(length):
        read = np.asarray(piece.symbols[piece.start - 1 : piece.stop]).astype(np.int64)
        pair = torch.from_numpy(read).unsqueeze(1).to(device)
        yield piece, pair[:-1], pair[1:]
