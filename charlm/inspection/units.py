"""Interpretable units: the unit that follows each feature of the text best.

Symbols: N positions, U units, F features.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlm.inspection.excerpt import Excerpt
from charlm.inspection.features import features
from charlm.inspection.gates import lanes_of
from charlm.inspection.trace import Reals, walk
from charlm.models.recurrent import CharModel

LANES, STEPS, WARM_UP = 32, 1_024, 128
"""Lanes, symbols of each, and symbols of warm-up, which are not counted."""
LEAST = 100
"""Least symbols of validation text."""


@dataclass(frozen=True)
class Unit:
    """A unit and the feature that it follows.

    state: the part of the state, such as "h" or "c". score: the correlation on one half of the
    positions, on which the unit was chosen. held_out: on the other half. low, high: the 5th and
    95th percentile of its memory, which can be clamped: c in an LSTM, else h.
    """

    layer: int
    state: str
    unit: int
    feature: str
    score: float
    held_out: float
    low: float
    high: float


@dataclass(frozen=True)
class Read:
    """The values of all units over a text made of pieces from several places.

    Shapes: values [N, U]; labels: (layer, state, unit) each. place_length: characters of each
    piece.
    """

    characters: list[str]
    values: Reals
    labels: list[tuple[int, str, int]]
    place_length: int


def read_units(model: CharModel, excerpt: Excerpt) -> tuple[list[Read], dict[str, Reals]]:
    """Read two halves of validation text; return the values of all units in each, and the features
    of both, concatenated."""
    lanes = max(2, min(LANES, len(excerpt) // (2 * WARM_UP)))
    steps = min(WARM_UP + STEPS, len(excerpt) // lanes)  # disjoint, so that one half is held out
    symbols = lanes_of(excerpt, lanes, steps)
    warm_up = min(WARM_UP, len(symbols) // 2)
    rows: list[Reals] = []
    labels: list[tuple[int, str, int]] = []
    states = model.initial_states(lanes)
    for step, seen in enumerate(walk(model, symbols.to(model.head.weight.device), states)):
        if step < warm_up:
            continue
        parts = [
            (layer, name, value)
            for layer, (cell, own) in enumerate(zip(model.layers(), seen, strict=True))
            for name, value in own.items()
            if name in cell.state_parts and value.dim() == 2
        ]
        if not labels:
            labels = [(at, name, unit) for at, name, v in parts for unit in range(v.shape[1])]
        rows.append(np.concatenate([v.float().cpu().numpy() for _, _, v in parts], axis=1))
    values = np.stack(rows)  # [T, B, U]
    table = [excerpt.vocabulary.symbol(index) for index in range(len(excerpt.vocabulary))]
    texts = [[table[i] for i in symbols[:, lane].tolist()] for lane in range(lanes)]
    by_name: dict[str, list[Reals]] = {}
    for text in texts:  # features may depend on the text of the warm-up
        for name, own in features(text).items():
            by_name.setdefault(name, []).append(own[warm_up:])
    half = lanes // 2
    halves = [
        Read(
            [c for text in texts[part] for c in text[warm_up:]],
            values[:, part].transpose(1, 0, 2).reshape(-1, values.shape[2]),
            labels,
            len(rows),
        )
        for part in (slice(0, half), slice(half, lanes))
    ]
    return halves, {name: np.concatenate(own) for name, own in by_name.items()}


def best_units(halves: list[Read], asked: dict[str, Reals]) -> list[Unit]:
    """Return the unit that follows each feature best, sorted by the absolute correlation on the
    held-out half, best first."""
    first, second = halves
    cut = len(first.characters)
    chosen: list[Unit] = []
    names = [n for n, v in asked.items() if v[:cut].std() > 0 and v[cut:].std() > 0]
    wanted = (
        np.stack([asked[name] for name in names], axis=1) if names else np.empty((0, 0), np.float32)
    )
    if not names:
        return []
    fitted = correlations(first.values, wanted[:cut])
    check = correlations(second.values, wanted[cut:])
    for at, name in enumerate(names):
        best = int(np.abs(fitted[:, at]).argmax())
        layer, state, unit = first.labels[best]
        memory = first.labels.index((layer, "c", unit)) if _has_c(first, layer) else best
        low, high = np.quantile(first.values[:, memory], (0.05, 0.95))
        chosen.append(
            Unit(
                *(layer, state, unit, name),
                *(float(fitted[best, at]), float(check[best, at])),
                *(round(float(low), 2), round(float(high), 2)),
            )
        )
    return sorted(chosen, key=lambda one: -abs(one.held_out))


def _has_c(read: Read, layer: int) -> bool:
    """Return True if the memory of a layer is its c."""
    return (layer, "c", 0) in read.labels


def correlations(values: Reals, wanted: Reals) -> NDArray[np.float64]:
    """Return Pearson's correlation of every unit with every feature; 0 if one is constant.

    Shapes: [N, U] and [N, F] -> [U, F].
    """
    a, b = _standard(values), _standard(wanted)
    result: NDArray[np.float64] = a.T @ b / len(a)
    return result


def _standard(values: np.ndarray) -> NDArray[np.float64]:
    centred = values.astype(np.float64) - values.mean(0, dtype=np.float64)
    spread = centred.std(0)
    return np.where(spread > 1e-9, centred / np.maximum(spread, 1e-9), 0.0)
