"""A linear probe: prediction of a label from the states of a model not trained on labels.

Symbols: N lines, U units.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from charlm.inspection.trace import walk
from charlm.models.recurrent import CharModel
from charlm.text.vocabulary import Vocabulary

Reals = NDArray[np.float64]

LANES, LONGEST = 128, 400
"""Lines read in parallel, and symbols of each; of a longer line, the last ones."""
RIDGE = 10.0
"""Added to the diagonal of the correlations of N standardised units."""


@dataclass(frozen=True)
class Probe:
    """Accuracy of a label predicted from the state after the last symbol, on held-out lines.

    labels: the two labels. majority: the share of the more frequent one. accuracy: of the linear
    probe. layer, state, unit: the single best unit, chosen on the other half; unit_accuracy: its
    accuracy.
    """

    labels: tuple[str, str]
    lines: int
    majority: float
    accuracy: float
    layer: int
    state: str
    unit: int
    unit_accuracy: float


def probe(model: CharModel, vocabulary: Vocabulary, labelled: list[tuple[str, str]]) -> Probe:
    """Fit a linear probe on half of the lines, and evaluate it on the other half.

    The label is one of two. Ridge regression on the standardised state, all parts of all layers.

    """
    first, second = sorted({label for label, _ in labelled})
    order = np.random.default_rng(0).permutation(len(labelled))
    wanted = np.array([1.0 if labelled[at][0] == second else -1.0 for at in order])
    values, names = final_states(model, vocabulary, [labelled[at][1] for at in order])
    half = len(order) // 2
    mean, spread = values[:half].mean(0), values[:half].std(0) + 1e-9
    standard = (values - mean) / spread
    own, goal = standard[:half], wanted[:half]
    centre = goal.mean()
    gram = own.T @ own / half + RIDGE / half * np.eye(own.shape[1])
    weights = np.linalg.solve(gram, own.T @ (goal - centre) / half)
    guess = standard[half:] @ weights + centre
    likeness = own.T @ (goal - centre) / half
    best = int(np.abs(likeness).argmax())
    turned = standard[:, best] * np.sign(likeness[best])
    single = turned[half:] - _threshold(turned[:half], goal > 0)
    truth = wanted[half:] > 0
    return Probe(
        (first, second),
        len(labelled),
        max(truth.mean(), 1 - truth.mean()),
        float(((guess > 0) == truth).mean()),
        *names[best],
        float(((single > 0) == truth).mean()),
    )


def _threshold(values: Reals, truth: NDArray[np.bool_]) -> float:
    """Return the threshold with the highest accuracy; larger values mean True."""
    order = np.argsort(values)
    ranked, right = values[order], truth[order]
    below = np.concatenate([[0], np.cumsum(~right)])  # correct negatives among the lowest values
    above = right.sum() - np.concatenate([[0], np.cumsum(right)])
    edges = np.concatenate([[-np.inf], (ranked[1:] + ranked[:-1]) / 2, [np.inf]])
    return float(edges[int((below + above).argmax())])


def final_states(
    model: CharModel, vocabulary: Vocabulary, texts: list[str]
) -> tuple[Reals, list[tuple[int, str, int]]]:
    """Return the state after the last symbol of each text, read from the initial state, and the
    unit of each column: layer, part of the state, number. Shapes: [N, U]."""
    encoded = [vocabulary.encode(text)[-LONGEST:] for text in texts]
    order = np.argsort([len(one) for one in encoded], kind="stable")  # similar lengths together
    rows: dict[int, Reals] = {}
    names: list[tuple[int, str, int]] = []
    device = model.head.weight.device
    for begin in range(0, len(order), LANES):
        group = order[begin : begin + LANES]
        lengths = np.array([max(1, len(encoded[at])) for at in group])
        inputs = np.zeros((int(lengths.max()), len(group)), np.int64)
        for lane, at in enumerate(group):
            inputs[: len(encoded[at]), lane] = encoded[at]
        states = model.initial_states(len(group))
        for step, seen in enumerate(walk(model, torch.from_numpy(inputs).to(device), states)):
            ended = np.flatnonzero(lengths == step + 1)
            if not ended.size:
                continue
            parts = [
                (layer, name, value.cpu().double().numpy())
                for layer, (cell, own) in enumerate(zip(model.layers(), seen, strict=True))
                for name, value in own.items()
                if name in cell.state_parts and value.dim() == 2
            ]
            names = [(at, name, unit) for at, name, v in parts for unit in range(v.shape[1])]
            joined = np.concatenate([value[ended] for _, _, value in parts], axis=1)
            rows |= {int(group[lane]): row for lane, row in zip(ended, joined, strict=True)}
    return np.stack([rows[at] for at in range(len(texts))]), names
