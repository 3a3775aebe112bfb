"""A model as an ONNX graph of the standard's own nodes: Gather, LSTM, GRU or RNN, MatMul.

Other cells, and blocks, are a Scan whose body is a step of their equations. The states are inputs
and outputs, so that a text of any length can be read in pieces.

Symbols: T time, B lanes, L layers, I input size, H hidden size, G gate blocks, V vocabulary size.
"""

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from charlm.common.errors import UsageError
from charlm.common.version import __version__
from charlm.exports.trained import is_standard, network
from charlm.models.plain import Arrays, PlainModel
from charlm.runs.checkpoint import Checkpoint

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 17, 8
"""Versions of the standard: those of 2022, which any runtime of today reads."""
SCAN_OPSET = 18
"""The version for a Scan: the first that torch's exporter writes, of 2022, too."""
ORDERS = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}
"""The place in charlm's weights of each gate block in the order of the standard: i, o, f, c of an
LSTM; z, r, h of a GRU."""
STATES = {"lstm": ("h", "c"), "gru": ("h",), "rnn": ("h",)}

Reals = NDArray[np.float32]


def onnx_bytes(saved: Checkpoint, model: PlainModel) -> bytes:
    """Return the content of the model's .onnx file.

    Inputs: symbols [T, B] (int64), and the parts of the states by their names in the cell, [L, B,
    H] or, of a matrix, [L, B, ...]: h and, of an LSTM, c. The caller fills them with the numbers of
    `initial_states` in the metadata before a text and before each record, and reads the symbol
    `end` first in a text of records: no standard node resets a lane. Outputs: logits [T, B, V],
    and the states after the window, as `h_after`.

    Raises: UsageError if the package onnx is not there or, for a Scan, onnxscript; or for a cell
    that a Scan cannot hold.
    """
    try:
        import onnx

        graph = _Graph(model)
        graph.build()
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the package {error.name} is not installed", "install it: pip install 'charlm[onnx]'"
        ) from None
    made = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes, "charlm", graph.inputs(), graph.outputs(), list(graph.weights.values())
        ),
        opset_imports=[onnx.helper.make_opsetid("", graph.opset)],
        ir_version=IR_VERSION,
        producer_name="charlm",
        producer_version=__version__,
    )
    onnx.helper.set_model_props(made, _properties(saved, model, graph.initial))
    onnx.checker.check_model(made, full_check=True)
    content: bytes = made.SerializeToString()
    return content


def _properties(saved: Checkpoint, model: PlainModel, initial: dict[str, float]) -> dict[str, str]:
    """Return the metadata: the vocabulary, the sizes, the step, the states before a text."""
    return {
        "charlm": __version__,
        "vocabulary": json.dumps(saved.vocabulary.to_json(), ensure_ascii=False),
        "model": json.dumps(model.config.model_dump(), ensure_ascii=False),
        "step": str(saved.step),
        "initial_states": json.dumps(initial),
    }


def _only_value(name: str, part: NDArray[Any]) -> float:
    """Return the number that fills a part of the initial state. Raises: UsageError for several."""
    if (part != part.flat[0]).any():
        raise UsageError(
            f"{name} begins with more than one number, which the metadata of ONNX cannot hold here",
            "export it --to hub",
        )
    return float(part.flat[0])


class _Graph:
    """The nodes and weights of a model, added one after another."""

    def __init__(self, model: PlainModel) -> None:
        self.model = model
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}
        config = model.config
        self._cell, self._layers, self._size = config.cell, config.num_layers, config.hidden_size
        self.opset = OPSET
        names = STATES.get(self._cell, ())
        self.initial = dict.fromkeys(names, 0.0)
        """The number that fills each part of the states before a text."""
        self._shapes: dict[str, tuple[int, ...]] = dict.fromkeys(names, (self._size,))
        """The shape of each part of the states, without L and B."""

    def build(self) -> None:
        """Add the whole model. Raises: ModuleNotFoundError."""
        x = self._vectors()
        x = self._standard(x) if is_standard(self.model) else self._scanned(x)
        weight = self._weight("head.weight", self.model.weights["head.weight"].T)
        product = self._add("MatMul", [x, weight], "product")
        bias = self._weight("head.bias", self.model.weights["head.bias"])
        self._add("Add", [product, bias], "logits")

    def _scanned(self, x: str) -> str:
        """Add a Scan over the equations of the cells; return the name of its output, [T, B, H]."""
        from charlm.exports.scan import initial_parts, step_graph

        self.opset, model = SCAN_OPSET, network(self.model)
        parts = initial_parts(model)
        self.initial = {name: _only_value(name, part.numpy()) for name, part in parts.items()}
        self._shapes = {name: tuple(part.shape[2:]) for name, part in parts.items()}
        outputs = [*(f"{name}_after" for name in parts), "y"]
        body = step_graph(model, self.opset)
        self._node("Scan", [*parts, x], outputs, body=body, num_scan_inputs=1)
        return "y"

    def _standard(self, x: str) -> str:
        """Add the layers as nodes of the standard; return the name of the output, [T, B, H]."""
        states = {name: self._split(name) for name in STATES[self._cell]}
        after: dict[str, list[str]] = {name: [] for name in states}
        for layer in range(self._layers):
            own = {name: pieces[layer] for name, pieces in states.items()}
            y, layer_after = self._layer(layer, x, own)
            x = self._add("Squeeze", [y, self._weight("axis", np.array([1]))], f"x{layer + 1}")
            for name, value in layer_after.items():
                after[name].append(value)
        for name, values in after.items():
            self._add("Concat", values, f"{name}_after", axis=0)
        return x

    def _vectors(self) -> str:
        """Add the embedding, or the one-hot vectors. Shapes: [T, B] -> [T, B, I]."""
        embedding = self.model.weights.get("embedding.weight")
        if embedding is not None:
            return self._add(
                "Gather", [self._weight("embedding.weight", embedding), "symbols"], "x0"
            )
        V = self.model.vocabulary_size
        depth = self._weight("depth", np.array(V))
        return self._add(
            "OneHot",
            ["symbols", depth, self._weight("off_on", np.array([0, 1], np.float32))],
            "x0",
            axis=-1,
        )

    def _split(self, name: str) -> list[str]:
        """Add the division of a state by layer. Shapes: [L, B, H] -> [1, B, H] each."""
        if self._layers == 1:
            return [name]
        pieces = [f"{name}{layer}" for layer in range(self._layers)]
        sizes = self._weight("ones", np.ones(self._layers, np.int64))
        self._node("Split", [name, sizes], pieces, axis=0)
        return pieces

    def _layer(self, layer: int, x: str, states: dict[str, str]) -> tuple[str, dict[str, str]]:
        """Add a layer; return the names of its output, [T, 1, B, H], and of its states after."""
        weights = self.model.cell(layer)
        inputs = [
            x,
            self._weight(f"W{layer}", self._blocks(weights["weight_ih"])[None]),
            self._weight(f"R{layer}", self._blocks(weights["weight_hh"])[None]),
            self._biases(layer, weights),
            "",  # the lanes are as long as the window
            *states.values(),
        ]
        y = f"y{layer}"
        after = {name: f"{name}{layer}_after" for name in states}
        options: dict[str, Any] = {"hidden_size": self._size}
        if self._cell == "gru":
            options["linear_before_reset"] = int(self.model.config.reset_gate == "after")
        if self._cell == "rnn":
            options["activations"] = [self.model.config.nonlinearity.capitalize()]
        self._node(self._cell.upper(), inputs, [y, *after.values()], **options)
        return y, after

    def _biases(self, layer: int, weights: Arrays) -> str:
        """Add the biases, [1, 2 G H]; return "" for a cell without them."""
        if "bias_ih" not in weights:
            return ""
        both = [self._blocks(weights[name]) for name in ("bias_ih", "bias_hh")]
        return self._weight(f"B{layer}", np.concatenate(both)[None])

    def _blocks(self, weight: Reals) -> Reals:
        """Order gate blocks as the standard does, in which z always weighs the old state.

        The lecture's z weighs the candidate, and 1 - sigma(a) = sigma(-a). Shapes: [G H, ...].
        """
        order = ORDERS[self._cell]
        blocks = np.split(weight, len(order))
        if self._cell == "gru" and self.model.config.reset_gate == "before":
            blocks[1] = -blocks[1]
        return np.concatenate([blocks[place] for place in order])

    def _weight(self, name: str, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        if name not in self.weights:
            self.weights[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._node(kind, inputs, [output], **attributes)
        return output

    def _node(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes))

    def inputs(self) -> "list[onnx.ValueInfoProto]":
        """Describe the graph's inputs."""
        from onnx import TensorProto, helper

        symbols = helper.make_tensor_value_info("symbols", TensorProto.INT64, ["T", "B"])
        return [symbols, *self._states("")]

    def outputs(self) -> "list[onnx.ValueInfoProto]":
        """Describe the graph's outputs."""
        from onnx import TensorProto, helper

        shape: list[str | int | None] = ["T", "B", self.model.vocabulary_size]
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)
        return [logits, *self._states("_after")]

    def _states(self, suffix: str) -> "list[onnx.ValueInfoProto]":
        from onnx import TensorProto, helper

        return [
            helper.make_tensor_value_info(
                f"{name}{suffix}", TensorProto.FLOAT, [self._layers, "B", *shape]
            )
            for name, shape in self._shapes.items()
        ]
