"""Choice of a symbol for each of several texts, which have options of their own.

The same as `chosen` in native/kernels/write.h, but for the last bit of exp. Symbols: K texts, V
vocabulary size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlm.sampling.generate import COLDEST

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Filters:
    """The options of a choice, as in [sample] of the configuration."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0


def choose(
    logits: NDArray[np.float32],
    filters: Sequence[Filters],
    uniforms: Doubles,
    unknown: int | None,
) -> Integers:
    """Choose a symbol for each text, where the cumulative distribution passes its uniform number.

    unknown: a symbol that is never chosen.

    Shapes: logits [K, V], uniforms [K]; result [K].
    """
    if unknown is not None:
        logits = logits.copy()
        logits[:, unknown] = -np.inf
    best: Integers = logits.argmax(1)
    temperature = np.array([one.temperature for one in filters])
    greedy = temperature < COLDEST
    if greedy.all():
        return best
    temperature[greedy] = 1.0
    below = logits - np.take_along_axis(logits, best[:, None], 1)
    p = np.exp(below.astype(np.float64) / temperature[:, None])
    for name, apply in (("top_k", _keep_top_k), ("top_p", _keep_top_p), ("min_p", _keep_min_p)):
        values = np.array([getattr(one, name) for one in filters])
        rows = np.flatnonzero(values != getattr(Filters, name))
        if rows.size:
            p[rows] = apply(p[rows], values[rows])
    cumulative = p.cumsum(1)
    passed = cumulative > uniforms[:, None] * cumulative[:, -1:]
    last = p.shape[1] - 1 - (p[:, ::-1] > 0).argmax(1)  # if rounding hides the passage
    chosen = np.where(passed.any(1), passed.argmax(1), last)
    return np.where(greedy, best, chosen)


def log_softmax(logits: NDArray[np.float32]) -> Doubles:
    """Return ln p of every symbol, before any filter. Shapes: [K, V]."""
    below = logits.astype(np.float64) - logits.max(1, keepdims=True)
    logs: Doubles = below - np.log(np.exp(below).sum(1, keepdims=True))
    return logs


def _keep_top_k(p: Doubles, k: Integers) -> Doubles:
    """Set all but the k largest to zero (ties with the k-th stay). Shapes: [K, V], [K]."""
    ordered = np.sort(p, 1)[:, ::-1]
    smallest = ordered[np.arange(len(p)), np.minimum(k, p.shape[1]) - 1]
    return np.where(p < smallest[:, None], 0, p)


def _keep_top_p(p: Doubles, share: Doubles) -> Doubles:
    """Set all to zero but the fewest largest that reach a share of the sum. Shapes: [K, V], [K]."""
    order = np.argsort(-p, 1, kind="stable")
    ordered = np.take_along_axis(p, order, 1)
    before = np.zeros_like(p)
    before[:, 1:] = ordered.cumsum(1)[:, :-1]
    ordered[:, 1:][(before >= (share * p.sum(1))[:, None])[:, 1:]] = 0
    kept = np.empty_like(p)
    np.put_along_axis(kept, order, ordered, 1)
    return kept


def _keep_min_p(p: Doubles, least: Doubles) -> Doubles:
    """Set all below a share of the largest, which is 1, to zero. Shapes: [K, V], [K]."""
    return np.where(p < least[:, None], 0, p)
