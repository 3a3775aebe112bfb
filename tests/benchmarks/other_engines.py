"""Measure engines that a user might take instead of charlm or PyTorch, if they are packaged.

    pip install onnx onnxruntime
    python tests/benchmarks/other_engines.py sample [--rounds 7]

    apt-get install libdnnl-dev g++          # or what it is called there
    python tests/benchmarks/other_engines.py train [--rounds 7]

`sample`: ONNX Runtime writes one text, a character a call, on one thread, with an LSTM and a GRU of
512 x 2; the graph is made by hand and compared with PyTorch's module first. `train`: oneDNN's own
recurrent primitives, forward and backward of the layers alone (no embedding, head, loss or AdamW,
which flatters them), by a C++ program that is compiled for it. Prints tables in Markdown.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HIDDEN, LAYERS, VOCABULARY, TEMPERATURE, COUNT = 512, 2, 65, 0.8, 400
GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}
"""Places of ONNX's gate blocks (i o f c; z r h) among torch's (i f g o; r z n)."""
SOURCE = Path(__file__).with_name("onednn_layers.cpp")
SHAPES = ((256, 1), (512, 2))


def median_of(rounds: int, measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(rounds))


# ---- ONNX Runtime -------------------------------------------------------------------------------


def graph(cell: str, weights: dict[str, np.ndarray]) -> Any:
    """Make the ONNX model of one step: a character and the states to logits and the states."""
    from onnx import TensorProto, helper, numpy_helper

    def blocks(name: str) -> np.ndarray:
        parts = np.split(weights[name], len(GATES[cell]))
        return np.concatenate([parts[at] for at in GATES[cell]])

    constants = {"embedding": weights["embedding.weight"], "head_bias": weights["head.bias"]}
    constants |= {"head": weights["head.weight"].T.copy(), "front": np.array([0], np.int64)}
    nodes = [
        helper.make_node("Gather", ["embedding", "character"], ["vector"]),
        helper.make_node("Unsqueeze", ["vector", "front"], ["x0"]),
    ]
    parts = ("h", "c") if cell == "lstm" else ("h",)
    states = [f"{part}{layer}" for layer in range(LAYERS) for part in parts]
    for layer in range(LAYERS):
        names = {key: f"{key}{layer}" for key in ("W", "R", "B")}
        constants[names["W"]] = blocks(f"recurrent.weight_ih_l{layer}")[None]
        constants[names["R"]] = blocks(f"recurrent.weight_hh_l{layer}")[None]
        biases = [blocks(f"recurrent.bias_{way}_l{layer}") for way in ("ih", "hh")]
        constants[names["B"]] = np.concatenate(biases)[None]
        own = [f"{part}{layer}" for part in parts]
        inputs = [f"x{layer}" if layer == 0 else f"h{layer - 1}_after", *names.values(), "", *own]
        extra = {"linear_before_reset": 1} if cell == "gru" else {}
        outputs = ["", *(f"{name}_after" for name in own)]
        nodes.append(helper.make_node(cell.upper(), inputs, outputs, hidden_size=HIDDEN, **extra))
    last = f"h{LAYERS - 1}_after"
    nodes.append(helper.make_node("Squeeze", [last, "front"], ["shown"]))
    nodes.append(helper.make_node("MatMul", ["shown", "head"], ["product"]))
    nodes.append(helper.make_node("Add", ["product", "head_bias"], ["logits"]))
    real, shape = TensorProto.FLOAT, [1, 1, HIDDEN]
    given = [helper.make_tensor_value_info("character", TensorProto.INT64, [1])]
    given += [helper.make_tensor_value_info(name, real, shape) for name in states]
    made = [helper.make_tensor_value_info("logits", real, [1, VOCABULARY])]
    made += [helper.make_tensor_value_info(f"{name}_after", real, shape) for name in states]
    known = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    body = helper.make_graph(nodes, cell, given, made, known)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class Runtime:
    """Writes one text by ONNX Runtime on one thread."""

    def __init__(self, path: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options)
        self.names = [given.name for given in self.session.get_inputs()[1:]]
        self.states = [np.zeros((1, 1, HIDDEN), np.float32) for _ in self.names]

    def read(self, character: int) -> np.ndarray:
        """Return the logits after one more character. Shapes: [V]."""
        states = dict(zip(self.names, self.states, strict=True))
        given = {"character": np.array([character], np.int64), **states}
        logits, *self.states = self.session.run(None, given)
        return np.asarray(logits)[0]

    def speed(self) -> float:
        """Measure characters a second, choice included."""
        draw, character = np.random.default_rng(0), 0
        began = time.perf_counter()
        for _ in range(COUNT):
            logits = self.read(character).astype(np.float64) / TEMPERATURE
            chances = np.exp(logits - logits.max()).cumsum()
            character = int(np.searchsorted(chances, draw.random() * chances[-1]))
        return COUNT / (time.perf_counter() - began)


def sample(rounds: int) -> None:
    """Print the speeds of ONNX Runtime, in float32 and int8."""
    try:
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError:
        sys.exit("this needs two packages: pip install onnx onnxruntime")
    import torch
    from bare_loop import BareModel

    print("| cell, 512 x 2 | ONNX Runtime float32 | int8 (dynamic) |\n|---|---|---|")
    for cell in GATES:
        torch.manual_seed(0)
        model = BareModel(cell, VOCABULARY, HIDDEN, LAYERS).eval()
        weights = {name: value.numpy() for name, value in model.state_dict().items()}
        with tempfile.TemporaryDirectory() as folder:
            exact, rounded = f"{folder}/exact.onnx", f"{folder}/int8.onnx"
            onnx.save(graph(cell, weights), exact)
            quantize_dynamic(exact, rounded, weight_type=QuantType.QInt8)
            text = np.random.default_rng(1).integers(0, VOCABULARY, 12)
            with torch.inference_mode():
                expected = model(torch.from_numpy(text)[:, None])[0][:, 0].numpy()
            engine = Runtime(exact)
            found = np.stack([engine.read(int(character)) for character in text])
            assert np.abs(found - expected).max() < 1e-4, "the graph is not the module"
            speeds = []
            for path in (exact, rounded):
                engine = Runtime(path)
                engine.speed()
                speeds.append(median_of(rounds, engine.speed))
        note = "" if cell == "lstm" else " (the head only: it has no int8 GRU)"
        print(f"| {cell} | {speeds[0]:,.0f} | {speeds[1]:,.0f}{note} |", flush=True)


# ---- oneDNN -------------------------------------------------------------------------------------


def train(rounds: int) -> None:
    """Print the speeds of oneDNN's recurrent primitives."""
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/layers"
        compiler = [os.environ.get("CXX", "g++"), "-std=c++17", "-O2", "-fopenmp", str(SOURCE)]
        try:
            subprocess.run([*compiler, "-ldnnl", "-o", program], check=True)
        except (OSError, subprocess.CalledProcessError):
            sys.exit("this needs a C++ compiler and oneDNN's headers: apt-get install libdnnl-dev")
        print("| oneDNN, layers alone | H x L | float32 | bfloat16 |\n|---|---|---|---|")
        for cell in ("lstm", "gru after", "gru before"):
            for hidden, layers in SHAPES:
                speeds = []
                for kind in ("float32", "bfloat16"):
                    words = [program, cell, kind, str(hidden), str(layers), str(rounds)]
                    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
                    done = subprocess.run(
                        words, env=environment, capture_output=True, text=True, check=False
                    )
                    speeds.append(done.stdout.strip() or f"- ({done.stderr.strip()})")
                print(f"| {cell} | {hidden} x {layers} | {' | '.join(speeds)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("sample", "train"))
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    {"sample": sample, "train": train}[args.what](args.rounds)


if __name__ == "__main__":
    main()
