"""A model as a file of weights for torch's own modules, with a script that loads it."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from charlm.common.errors import UsageError
from charlm.models.plain import PlainModel
from charlm.runs.checkpoint import Checkpoint

SUFFIX = ".pt.safetensors"
NAME = f"model{SUFFIX}"
"""Name of the file in exports/loader.py."""


def script_beside(path: Path) -> Path:
    """Return the path of the script for a file of weights."""
    return path.with_name(f"{path.name.removesuffix('.safetensors').removesuffix('.pt')}.py")


def loader(name: str) -> str:
    """Return the script that loads the file of weights with a name beside it."""
    text = files("charlm.exports").joinpath("loader.py").read_text("utf-8")
    return text.replace(json.dumps(NAME), json.dumps(name))


def torch_bytes(saved: Checkpoint, model: PlainModel) -> bytes:
    """Return the content of the file: weights by the names of nn.LSTM, nn.GRU or nn.RNN, in
    metadata the sizes and the vocabulary.

    Raises: UsageError for the lecture's GRU, which torch has no module for.
    """
    config = model.config
    if config.cell == "gru" and config.reset_gate == "before":
        raise UsageError(
            "PyTorch has no module for a gru with reset_gate before",
            "export it --to onnx, whose GRU has both forms",
        )
    weights: dict[str, NDArray[np.float32]] = {}
    for name, weight in model.weights.items():
        if name.startswith("cells."):
            _, layer, own = name.split(".")
            name = f"cells.{own}_l{layer}"
        weights[name] = np.ascontiguousarray(weight)
    size = model.vocabulary_size
    weights.setdefault("embedding.weight", np.eye(size, dtype=np.float32))  # one-hot inputs
    return safetensors.numpy.save(weights, {"charlm": json.dumps(_about(saved, model))})


def _about(saved: Checkpoint, model: PlainModel) -> dict[str, Any]:
    config, vocabulary = model.config, saved.vocabulary
    module: dict[str, Any] = {
        "input_size": config.embedding_size or model.vocabulary_size,
        "hidden_size": config.hidden_size,
        "num_layers": config.num_layers,
        "bias": config.bias,
    }
    if config.cell == "rnn":
        module["nonlinearity"] = config.nonlinearity
    unknown = vocabulary.unknown
    symbols = [vocabulary.symbol(index) for index in range(len(vocabulary))]
    known = symbols[: len(vocabulary.code_points)]
    is_decomposed = vocabulary.unit == "jamo" or vocabulary.normalize == "nfd"
    return {
        "cell": config.cell.upper(),
        "module": module,
        "unit": vocabulary.unit,
        "form": "NFD" if is_decomposed else "NFC" if vocabulary.normalize == "nfc" else "",
        "symbols": symbols,
        "numbers": {symbol: number for number, symbol in enumerate(known)},
        "unknown": unknown,
        "never": [] if unknown is None else [unknown],
        "end": vocabulary.end,
        "before": vocabulary.before,
        "first": vocabulary.first,
    }
