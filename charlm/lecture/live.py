"""The page's live parts: the weights, numbers and words that its script computes with."""

import base64
from typing import Any

import numpy as np
from torch import Tensor

from charlm.cells.base import GatedCell
from charlm.inspection import toy as scalar
from charlm.lecture import latest
from charlm.lecture.lab import Lab
from charlm.models.recurrent import CharModel
from charlm.reports.view import Live
from charlm.reports.words import Words

RATE = 0.1
"""Learning rate of plain gradient descent on "hello": slow enough to watch, 35 steps to "ello"."""
READ = "a.....b....."
"""The text that the gates read when the page opens."""
LONGEST = 100
"""Steps of the scalar example, at most."""


def hello(lab: Lab, words: Words) -> Live:
    """Return the untrained network of "hello", with its text."""
    before, _, corpus = lab.hello
    vocabulary = corpus.vocabulary
    letters = [vocabulary.symbol(index) for index in range(len(vocabulary))]
    symbols = np.asarray(corpus.symbols[:]).astype(int).tolist()
    data = {"letters": letters, "symbols": symbols, "net": network(before), "rate": RATE}
    return Live("hello", data, words.named("live", "live_hello"))


def lstm_gates(words: Words) -> Live:
    """Return a small trained LSTM whose gates the reader opens and shuts."""
    kept, erased = {"f": 1, "i": 0}, {"f": 0, "i": 0}
    net = network(latest.train("lstm"))
    return _gates([net | {"gates": ["f", "i", "o"], "keep": kept, "erase": erased}], "lstm", words)


def gru_gates(words: Words) -> Live:
    """Return a small trained GRU of each form whose gates the reader opens and shuts."""
    nets = []
    for form, keeps in (("before", 0), ("after", 1)):
        sets = {"gates": ["z", "r"], "keep": {"z": keeps}, "erase": {"z": 1 - keeps}}
        nets.append(network(latest.train("gru", form)) | sets)
    return _gates(nets, "gru", words)


def _gates(nets: list[dict[str, Any]], cell: str, words: Words) -> Live:
    data = {"letters": list(latest.ALPHABET), "read": READ, "nets": nets}
    return Live("gates", data, words.named("live", "live_gates", f"live_{cell}"))


def toy(words: Words) -> Live:
    """Return the noise of the scalar example: the very numbers of the figure, to four digits."""
    noise = np.rint(1e4 * scalar.noise(LONGEST)).astype("<i2")
    data = {
        "noise": base64.b64encode(noise.tobytes()).decode(),
        "sequences": scalar.SEQUENCES,
        "longest": LONGEST,
    }
    return Live("toy", data, words.named("live", "live_toy"))


def network(model: CharModel) -> dict[str, Any]:
    """Return a network's weights under the names of the script `cells.js`, row by row."""
    (cell,) = model.layers()
    assert isinstance(cell, GatedCell)
    rnn = getattr(cell, "nonlinearity", None)
    return {
        "kind": f"rnn_{rnn}" if rnn else cell.variant,
        "size": cell.hidden_size,
        "ih": _numbers(cell.weight_ih),
        "hh": _numbers(cell.weight_hh),
        "bih": _numbers(cell.bias_ih),
        "bhh": _numbers(cell.bias_hh),
        "head": _numbers(model.head.weight),
        "bias": _numbers(model.head.bias),
    }


def _numbers(weights: Tensor | None) -> list[float] | None:
    """Return weights as numbers of nine digits, which determine a float32."""
    if weights is None:
        return None
    return [float(f"{value:.9g}") for value in weights.flatten().tolist()]
