"""Measure whole training steps on an NVIDIA GPU, charlm beside stock PyTorch.

    python tests/benchmarks/gpu.py [--rounds 5] [--steps 200]

A step is the embedding, the layers, the head, the loss, all gradients, norm clipping and AdamW, on
64 lanes of 64 symbols, with the state carried over. charlm computes as `charlm train` does there,
in bfloat16. Stock PyTorch is `nn.LSTM`, `nn.GRU` or `nn.RNN` (cuDNN) in two ways, of which the
faster counts: under bfloat16 autocast, in which torch has cuDNN compute in float16, and with all
weights in bfloat16; each with fused AdamW, and the whole step captured as one CUDA graph. For the
lecture's GRU, which cuDNN lacks, stock is the loop over its equations, eager and captured.

Every shape is measured in turn, round by round; medians are compared. Prints a JSON object a line.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.config import loading
from charlm.training.learner import Learner

LANES, LENGTH, VOCABULARY = 64, 64, 65
SHAPES = ((256, 1), (256, 2), (512, 1), (512, 2))
CELLS = ("lstm", "gru", "gru before", "rnn")

Step = Callable[[], object]


class LectureGRU(nn.Module):
    """The lecture's GRU, reset before the product, as a loop over its equations."""

    def __init__(self, hidden: int, layers: int) -> None:
        super().__init__()
        self.inputs = nn.ModuleList(nn.Linear(hidden, 3 * hidden) for _ in range(layers))
        self.gates = nn.ModuleList(nn.Linear(hidden, 2 * hidden) for _ in range(layers))
        self.candidates = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers))

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Compute a window. Shapes: [T, B, H], [L, B, H] -> [T, B, H], [L, B, H]."""
        last = []
        for layer, (project, gate, candidate) in enumerate(
            zip(self.inputs, self.gates, self.candidates, strict=True)
        ):
            h, outputs = state[layer], []
            for given in project(x):
                H = h.shape[1]
                r, z = (given[:, : 2 * H] + gate(h)).sigmoid().chunk(2, 1)
                n = (given[:, 2 * H :] + candidate(r * h)).tanh()
                h = torch.lerp(h, n.to(h.dtype), z.to(h.dtype))
                outputs.append(h)
            x = torch.stack(outputs)
            last.append(h)
        return x, torch.stack(last)


class Stock(nn.Module):
    """Embedding, a stack of torch's own layers or the lecture's loop, and head."""

    def __init__(self, cell: str, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, hidden)
        if cell == "gru before":
            self.recurrent: nn.Module = LectureGRU(hidden, layers)
        else:
            module = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[cell]
            self.recurrent = module(hidden, hidden, layers)
        self.head = nn.Linear(hidden, VOCABULARY)
        zero = torch.zeros(layers, LANES, hidden)
        self.state = [zero.clone() for _ in range(2 if cell == "lstm" else 1)]


def stock_step(cell: str, hidden: int, layers: int, *, autocast: bool, graph: bool) -> Step:
    """Return a step of stock PyTorch, captured as a CUDA graph if `graph`."""
    model = Stock(cell, hidden, layers).cuda()
    kind = torch.float32 if autocast else torch.bfloat16
    model.to(kind)
    if isinstance(model.recurrent, nn.RNNBase):
        model.recurrent.flatten_parameters()
    state = [part.cuda().to(kind) for part in model.state]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True, capturable=True)
    inputs = torch.randint(VOCABULARY, (LENGTH, LANES), device="cuda")
    targets = torch.randint(VOCABULARY, (LENGTH, LANES), device="cuda")

    def step() -> None:
        # without the cache of casts, which would keep the weights of the recording
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast, cache_enabled=not graph):
            given = tuple(state) if len(state) > 1 else state[0]
            output, after = model.recurrent(model.embedding(inputs), given)
            logits = model.head(output)
        loss = F.cross_entropy(logits.float().view(-1, VOCABULARY), targets.view(-1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        for mine, new in zip(state, after if isinstance(after, tuple) else (after,), strict=True):
            mine.copy_(new.detach())

    if not graph:
        return step
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        step()

    def replay() -> None:
        recorded.replay()

    replay.reads = (model, state, optimizer, inputs, targets)  # type: ignore[attr-defined]
    return replay


def charlm_step(cell: str, hidden: int, layers: int) -> Step:
    """Return charlm's own step, as `charlm train` takes it."""
    name, _, form = cell.partition(" ")
    shape = (f"model.hidden_size={hidden}", f"model.num_layers={layers}")
    window = (f"train.batch_size={LANES}", f"train.sequence_length={LENGTH}")
    fixed = ("train.device=cuda", "train.precision=bfloat16", "train.weight_average=0")
    plain = (f"model.embedding_size={hidden}", "model.dropout=0", "train.state_reset=0")
    changes = [f"model.cell={name}", *shape, *window, *fixed, *plain]
    if form:
        changes.append(f"model.reset_gate={form}")
    config = loading.load("default", changes).resolve().config
    symbols = np.random.default_rng(1).integers(0, VOCABULARY, LANES * LENGTH * 20 + 1)
    return Learner(config, symbols.astype(np.uint8), VOCABULARY).take_step


def ways(cell: str, hidden: int, layers: int) -> dict[str, Step]:
    """Return every way to take a step of one shape."""
    shape = (cell, hidden, layers)
    return {
        "charlm": charlm_step(*shape),
        "stock autocast, graph": stock_step(*shape, autocast=True, graph=True),
        "stock bfloat16, graph": stock_step(*shape, autocast=False, graph=True),
        "stock autocast": stock_step(*shape, autocast=True, graph=False),
    }


def seconds_a_step(step: Step, steps: int) -> float:
    """Measure the seconds of a step over `steps` of them."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--cells", nargs="*", default=list(CELLS))
    args = parser.parse_args()
    print(json.dumps({"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}))
    for cell in args.cells:
        for hidden, layers in SHAPES:
            torch.manual_seed(0)
            steps = ways(cell, hidden, layers)
            times: dict[str, list[float]] = {name: [] for name in steps}
            counts = dict.fromkeys(steps, args.steps)
            for name, step in steps.items():
                seconds_a_step(step, 5)
                if seconds_a_step(step, 5) > 0.01:  # a plain loop takes tens of milliseconds
                    counts[name] = max(5, args.steps // 10)
            for _ in range(args.rounds):
                for name, step in steps.items():
                    times[name].append(seconds_a_step(step, counts[name]))
            medians = {name: 1e3 * statistics.median(found) for name, found in times.items()}
            best = min(value for name, value in medians.items() if name != "charlm")
            row = {name: round(value, 3) for name, value in medians.items()}
            ratio = round(best / medians["charlm"], 2)
            shape = f"{hidden} x {layers}"
            print(json.dumps({"cell": cell, "shape": shape, "ms": row, "ratio": ratio}), flush=True)


if __name__ == "__main__":
    main()
