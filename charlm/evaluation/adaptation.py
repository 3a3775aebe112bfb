"""Dynamic evaluation: a model that goes on learning from what it has just read.

Every window is predicted first and learned from afterwards, so that nothing is known of a symbol
before it has been charged. A score of this kind is no score of the trained weights, and is always
reported apart.

Symbols: T the length of a window.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from charlm.backends.choice import computation_of
from charlm.backends.step import Computation
from charlm.evaluation.surprisal import WARM_UP
from charlm.models.recurrent import CharModel, States
from charlm.text.symbols import SymbolSource

Squares = list[Tensor]
"""The mean square of every weight's gradient over the windows of a text, in their order."""

SQUARED_ON, TUNED_ON = 20_000, 10_000
"""Symbols, the last of the train split."""
RATES, DECAYS = (3e-4, 6e-4, 1.2e-3), (0.0, 3e-3)
"""What is tried: every rate with `Pace.decay`, then the other decays with the best rate."""
DAMPING = 1e-3
"""What is added to each root of a mean square, in units of their mean."""
LONGEST = 1.5
"""A gradient counts as at most so many times the root of the mean square length on train. Without
a limit single windows threw an LSTM off course for thousands of symbols: on tinyshakespeare 1.376
nats, with it 1.297; 1.0 and 2.5 are within 0.003."""


@dataclass(frozen=True)
class Pace:
    """Says how fast a model adapts.

    window: T, symbols between two updates. rate: of the steps. decay: how far each update pulls
    the weights back to the trained ones.
    """

    window: int = 16
    rate: float = 6e-4
    decay: float = 1e-3


class AdaptiveReader:
    """Reads a text in its order and learns from each window once it is read. See `Reader`.

        w <- w - rate g / (sqrt(s) + e) + decay r (w_0 - w);   r = sqrt(s) / mean(sqrt(s))

    g is the window's gradient, scaled down where it is longer than `LONGEST` allows; s its mean
    square on the train split, w_0 the trained weights. Every call goes on with the state and the
    weights that the last one ended with.

    squares: see `mean_squares`.

    Source: Krause et al. 2018 (arXiv 1709.07432), dynamic evaluation with an RMS global prior.
    """

    def __init__(self, model: CharModel, squares: Squares, pace: Pace) -> None:
        self.model, self.pace = learning_copy(model), pace
        self._computation = computation_of(self.model)
        self._trained = [p.detach().clone() for p in self.model.parameters()]
        roots = [s.sqrt() for s in squares]
        self._longest = LONGEST * math.sqrt(sum(float(s.sum()) for s in squares))
        mean = float(sum(root.sum() for root in roots) / sum(root.numel() for root in roots))
        self._steps = [pace.rate / (root + DAMPING * mean) for root in roots]
        self._pulls = [(pace.decay * root / mean).clamp(max=1.0) for root in roots]
        self._states = self.model.initial_states(1)
        self._is_warm = False

    def __call__(
        self,
        symbols: SymbolSource,
        start: int,
        stop: int,
        *,
        window: int = 0,
        advanced: Callable[[int], object] = lambda _: None,
    ) -> Tensor:
        assert not window, "a model that learns as it reads keeps its state"
        found = torch.full((stop - start,), math.log(self.model.vocabulary_size))

        def keep(at: int, _: Tensor, __: States, losses: Tensor) -> None:
            found[at - start : at - start + len(losses)] = losses.squeeze(1).cpu()

        self._read(symbols, start, stop, keep, advanced)
        return found

    def distributions(
        self,
        symbols: SymbolSource,
        start: int,
        stop: int,
        *,
        window: int = 0,
        advanced: Callable[[int], object] = lambda _: None,
    ) -> Tensor:
        """Read likewise, and return ln p of every symbol at each position. See `Predictor`."""
        assert not window, "a model that learns as it reads keeps its state"
        V = self.model.vocabulary_size
        found = torch.full((stop - start, V), -math.log(V))

        def keep(at: int, given: Tensor, states: States, _: Tensor) -> None:
            with torch.no_grad():
                logits, _after = self.model(given, states)
            place = slice(at - start, at - start + len(given))
            found[place] = logits.squeeze(1).float().log_softmax(-1).cpu()

        self._read(symbols, start, stop, keep, advanced)
        return found

    def _read(
        self,
        symbols: SymbolSource,
        start: int,
        stop: int,
        keep: Callable[[int, Tensor, States, Tensor], None],
        advanced: Callable[[int], object],
    ) -> None:
        """Read and learn, window by window. keep: is given where a window begins, what is read, the
        states before it and its surprisals, while the weights are those that predicted it."""
        first = max(start, 1)  # the first symbol of a text follows nothing
        if not self._is_warm:
            self._warm_up(symbols, first)
        for given, targets, at in _windows(self.model, symbols, first, stop, self.pace.window):
            before = self._states
            losses, self._states = self._computation.loss_and_gradients(given, targets, before)
            keep(at, given, before, losses)
            self._update()
            advanced(len(losses))

    def _warm_up(self, symbols: SymbolSource, stop: int) -> None:
        """Read what stands before the first symbol that counts."""
        for given, targets, _ in _windows(
            self.model, symbols, max(1, stop - WARM_UP), stop, WARM_UP
        ):
            _, self._states = self._computation.surprisals(given, targets, self._states)
        self._is_warm = True

    @torch.no_grad()
    def _update(self) -> None:
        weights: list[Tensor] = list(self.model.parameters())
        gradients = [p.grad for p in weights if p.grad is not None]
        norm = float(nn.utils.get_total_norm(gradients))
        share = min(1.0, self._longest / norm) if norm else 1.0
        torch._foreach_addcmul_(weights, gradients, self._steps, value=-share)
        for weight, trained, pull in zip(weights, self._trained, self._pulls, strict=True):
            weight.lerp_(trained, pull)


def adaptive_reader(model: CharModel, train: SymbolSource) -> AdaptiveReader:
    """Return a reader whose pace is the best of a few on the end of the train split.

    Nothing of the text to be scored is used. train: the symbols of the train split.
    """
    end = np.asarray(train[max(0, len(train) - SQUARED_ON) :])
    pace = Pace()
    squares = mean_squares(computation_of(learning_copy(model)), end, pace.window)
    tuned_on = end[-TUNED_ON:]

    def cost(tried: Pace) -> float:
        reader = AdaptiveReader(model, squares, tried)
        total = reader(tuned_on, 0, len(tuned_on)).sum().item()
        return total if np.isfinite(total) else np.inf

    pace = min((replace(pace, rate=rate) for rate in RATES), key=cost)
    pace = min((pace, *(replace(pace, decay=decay) for decay in DECAYS)), key=cost)
    return AdaptiveReader(model, squares, pace)


def learning_copy(model: CharModel) -> CharModel:
    """Return a copy of a model whose weights may have gradients."""
    return copy.deepcopy(model).requires_grad_(True)


def mean_squares(computation: Computation, symbols: SymbolSource, window: int) -> Squares:
    """Return the mean square of each weight's gradient over the windows of a text.

    computation: of a model whose weights may have gradients.
    """
    parameters = list(computation.model.parameters())
    sums = [torch.zeros_like(p) for p in parameters]
    states, count = computation.model.initial_states(1), 0
    for given, targets, _ in _windows(computation.model, symbols, 1, len(symbols), window):
        _, states = computation.loss_and_gradients(given, targets, states)
        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_addcmul_(sums, gradients, gradients)
        count += 1
    torch._foreach_div_(sums, max(1, count))
    return sums


def _windows(
    model: CharModel, symbols: SymbolSource, start: int, stop: int, length: int
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Yield windows of symbols and of those that follow, [T, 1] each on the model's device, and
    where they begin."""
    device = model.head.weight.device
    for at in range(start, stop, length):
        end = min(at + length, stop)
        read = np.asarray(symbols[at - 1 : end]).astype(np.int64)
        pair = torch.from_numpy(read).unsqueeze(1).to(device)
        yield pair[:-1], pair[1:], at
