"""Dynamic evaluation: a model that goes on learning from what it has just read.

Every window is predicted first and learned from afterwards, so that nothing is known of a symbol
before it has been charged. A score of this kind is no score of the trained weights, and is always
reported apart.

Symbols: T the length of a window.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from charlm.backends.step import Computation
from charlm.models.recurrent import CharModel
from charlm.text.symbols import SymbolSource

Squares = list[Tensor]
"""The mean square of every weight's gradient over the windows of a text, in their order."""


@dataclass(frozen=True)
class Pace:
    """How fast a model adapts.

    window: T, symbols between two updates. rate: of the steps. decay: how far each update pulls
    the weights back to the trained ones.
    """

    window: int = 8
    rate: float = 1e-4
    decay: float = 1e-3


class AdaptiveReader:
    """Reads a text in its order and learns from each window once it is read. See `Reader`.

        w <- w - rate g / (sqrt(s) + e) + decay r (w_0 - w);   r = sqrt(s) / mean(sqrt(s))

    g is the window's gradient, s its mean square on the train split, w_0 the trained weights.

    make: makes what computes a model. squares: see `mean_squares`. start: continues where another
    call has ended if it begins where that one stopped; else states and weights start anew.

    Source: Krause et al. 2018 (arXiv 1709.07432), equation 5, with the norm of a whole model.
    """

    def __init__(
        self,
        model: CharModel,
        make: Callable[[CharModel], Computation],
        squares: Squares,
        pace: Pace,
    ) -> None:
        self.model = copy.deepcopy(model).requires_grad_(True)
        self._computation, self._pace = make(self.model), pace
        self._trained = [p.detach().clone() for p in self.model.parameters()]
        roots = [s.sqrt() for s in squares]
        mean = float(sum(root.sum() for root in roots) / sum(root.numel() for root in roots))
        self._steps = [pace.rate / (root + 1e-3 * mean) for root in roots]
        self._pulls = [(pace.decay * root / mean).clamp(max=1.0) for root in roots]
        self._states = self.model.initial_states(1)

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
        found = torch.empty(stop - start)
        V = self.model.vocabulary_size
        first = max(start, 1)
        found[: first - start] = float(np.log(V))
        for given, targets, at in _windows(symbols, first, stop, self._pace.window):
            losses, _ = self._computation.surprisals(given, targets, self._states)
            found[at - start : at - start + len(losses)] = losses.squeeze(1)
            _, self._states = self._computation.loss_and_gradients(given, targets, self._states)
            self._update()
            advanced(len(losses))
        return found

    @torch.no_grad()
    def _update(self) -> None:
        weights: list[Tensor] = list(self.model.parameters())
        gradients = [p.grad for p in weights if p.grad is not None]
        torch._foreach_addcmul_(weights, gradients, self._steps, value=-1)
        for weight, trained, pull in zip(weights, self._trained, self._pulls, strict=True):
            weight.lerp_(trained, pull)


def mean_squares(computation: Computation, symbols: SymbolSource, window: int) -> Squares:
    """Return the mean square of each weight's gradient over the windows of a text.

    computation: of a model whose weights may have gradients.
    """
    parameters = list(computation.model.parameters())
    sums = [torch.zeros_like(p) for p in parameters]
    states, count = computation.model.initial_states(1), 0
    for given, targets, _ in _windows(symbols, 1, len(symbols), window):
        _, states = computation.loss_and_gradients(given, targets, states)
        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_addcmul_(sums, gradients, gradients)
        count += 1
    torch._foreach_div_(sums, max(1, count))
    return sums


def _windows(
    symbols: SymbolSource, start: int, stop: int, length: int
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Yield windows of symbols and of those that follow, [T, 1] each, and where they begin."""
    for at in range(start, stop, length):
        end = min(at + length, stop)
        read = np.asarray(symbols[at - 1 : end]).astype(np.int64)
        pair = torch.from_numpy(read).unsqueeze(1)
        yield pair[:-1], pair[1:], at
