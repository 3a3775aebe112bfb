"""How fast this machine trains and writes: every cell at a few shapes, by both engines.

Everything is measured in rounds in which the engines take turns, so that drift hits them alike.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import ValidationError

from charlm.backends import choice
from charlm.backends.device import versions
from charlm.config.schema import Config, SampleConfig
from charlm.errors import UsageError
from charlm.native.interface import Kernels
from charlm.sampling.engine import engine as writing_engine
from charlm.sampling.engine import threads as on_threads
from charlm.training.learner import Learner

BATCH, LENGTH, VOCABULARY = 64, 64, 65
CELLS = ("rnn", "lstm", "gru", "gru:reset_gate=before")
SHAPES = ("128x1", "256x1", "512x2")
WARM_UP = 3
WRITTEN = 400
"""Symbols a round, one text at once on one thread."""


@dataclass(frozen=True)
class Row:
    """A cell at a shape. Units: symbols a second; shares of the rates of `matrix_rates` and
    `read_rate`.

    train: by engine, "native" and "torch". write: by precision of the weights. picked: the engine
    that `train.engine = "auto"` takes, and the precision of `train.precision = "auto"`.
    """

    cell: str
    hidden_size: int
    num_layers: int
    picked: tuple[str, str]
    train: dict[str, float]
    matrix_share: float
    write: dict[str, float]
    read_share: float | None


def parsed(cell: str) -> dict[str, str]:
    """The [model] settings of a name such as gru:reset_gate=before. Raises: UsageError."""
    name, _, rest = cell.partition(":")
    pairs = [pair.partition("=") for pair in rest.split(",") if rest]
    if not all(equals for _, equals, _ in pairs):
        raise UsageError(f"{cell} is no cell", "write it as in gru:reset_gate=before")
    return {"cell": name, **{key: value for key, _, value in pairs}}


def sizes(shape: str) -> tuple[int, int]:
    """Width and layers of a shape such as 512x2. Raises: UsageError."""
    width, _, layers = shape.partition("x")
    if not (width.isdecimal() and layers.isdecimal() and int(width) and int(layers)):
        raise UsageError(f"{shape} is no shape", "write it as in 512x2: width x layers")
    return int(width), int(layers)


def measure(cells: Sequence[str], shapes: Sequence[str], rounds: int) -> Iterator[Row]:
    """A row for every cell at every shape. Raises: UsageError."""
    wanted = [(cell, parsed(cell), sizes(shape)) for shape in shapes for cell in cells]
    for cell, model, (hidden_size, num_layers) in wanted:
        yield _row(cell, model, hidden_size, num_layers, rounds)


def matrix_rates(hidden_size: int) -> dict[str, float]:
    """Operations a second of torch's own product at the recurrent shape, by precision."""
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        left = torch.randn(BATCH, hidden_size).to(dtype)
        right = torch.randn(hidden_size, 4 * hidden_size).to(dtype)
        out = torch.empty(BATCH, 4 * hidden_size, dtype=dtype)
        seconds = _median(lambda a=left, b=right, c=out: torch.mm(a, b, out=c), 270, 20)  # type: ignore[misc]
        rates[str(dtype).removeprefix("torch.")] = 2 * out.numel() * hidden_size / seconds
    return rates


def read_rate(kernels: Kernels, size: int) -> float:
    """Bytes a second that one thread reads, again and again from a block of `size` bytes."""
    block = torch.ones(size // 512 * 512, dtype=torch.uint8)
    times = max(1, 10_000_000 // size)
    seconds = _median(
        lambda: kernels.call("read_bytes", "float32", block, len(block), times), 30, 3
    )
    return len(block) * times / seconds


def operations(config: Config) -> float:
    """That a symbol costs in training: a product forward, two on the way back. What the first
    layer gets from a symbol is looked up, and is not counted."""
    model, gates = config.model, {"rnn": 1, "lstm": 4, "gru": 3}[config.model.cell]
    products = gates * model.hidden_size**2 * (2 * model.num_layers - 1)
    return 3 * 2 * (products + model.hidden_size * VOCABULARY)


def _row(cell: str, model: dict[str, str], hidden_size: int, num_layers: int, rounds: int) -> Row:
    config = _config(cell, model, hidden_size, num_layers)
    learners = {"native": _learner(config, "auto"), "torch": _learner(config, "torch")}
    picked = learners["native"].engine.name
    if picked == "torch":  # there is but one engine here
        learners = {"torch": learners["torch"]}
    seconds: dict[str, list[float]] = {name: [] for name in learners}
    for number in range(WARM_UP + rounds):
        for name, learner in learners.items():
            began = time.perf_counter()
            learner.take_step()
            if number >= WARM_UP:
                seconds[name].append(time.perf_counter() - began)
    speeds = {name: BATCH * LENGTH / statistics.median(took) for name, took in seconds.items()}
    fastest = learners[picked]
    precision = str(fastest.precision).removeprefix("torch.")
    rate = matrix_rates(hidden_size)[precision]
    write, read_share = _writing(fastest, rounds)
    return Row(
        cell,
        hidden_size,
        num_layers,
        (picked, precision),
        speeds,
        speeds[picked] * operations(config) / rate,
        write,
        read_share,
    )


def _config(cell: str, model: dict[str, str], hidden_size: int, num_layers: int) -> Config:
    sizes = {"hidden_size": hidden_size, "embedding_size": hidden_size, "num_layers": num_layers}
    train = {"batch_size": BATCH, "sequence_length": LENGTH, "steps": 1_000_000, "clip_norm": 1.0}
    train |= {"weight_average": 0.0, "state_reset": 0.0}
    try:
        return Config.model_validate(
            {"model": {**model, **sizes, "dropout": 0.0}, "train": {**train, "device": "cpu"}}
        )
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"{cell}: {key} {first['msg'].replace('Input should', 'should')}",
            "write it as in lstm or gru:reset_gate=before",
        ) from None


def _learner(config: Config, engine: str) -> Learner:
    symbols = np.random.default_rng(0).integers(0, VOCABULARY, 500_000).astype(np.uint8)
    changed = config.model_copy(
        update={"train": config.train.model_copy(update={"engine": engine})}
    )
    return Learner(changed, symbols, VOCABULARY)


def _writing(learner: Learner, rounds: int) -> tuple[dict[str, float], float | None]:
    """Symbols a second by precision, and the share of what reading the bfloat16 weights allows."""
    model, kernels = learner.model, learner.engine.kernels
    precisions = [name for name in ("float32", "bfloat16", "int8") if kernels]
    precisions = [name for name in precisions if kernels and name in kernels.types]
    if model.config.nonlinearity == "relu":
        precisions = [name for name in precisions if name != "int8"]
    with on_threads(1):
        speeds = {
            precision: _writing_speed(learner, precision, rounds)
            for precision in precisions or ["float32"]
        }
        if kernels is None or "bfloat16" not in speeds:
            return speeds, None
        cells = sum(p.numel() for cell in model.layers()[1:] for p in cell.parameters())
        weights = cells + model.layers()[0].weight_hh.numel() + model.head.weight.numel()
        return speeds, speeds["bfloat16"] * 2 * weights / read_rate(kernels, 2 * weights)


def _writing_speed(learner: Learner, precision: str, rounds: int) -> float:
    writer = writing_engine(learner.model, 1, precision)
    settings = SampleConfig(temperature=0.8)
    uniforms = torch.rand(WRITTEN, 1, dtype=torch.float64)

    def write() -> None:
        for chunk in torch.split(uniforms, writer.at_once):
            writer.write(chunk, settings, None)

    return WRITTEN / _median(write, rounds, 1)


def _median(call: Callable[[], object], rounds: int, warm_up: int) -> float:
    """Seconds of a call."""
    for _ in range(warm_up):
        call()
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def place() -> dict[str, object]:
    """What was measured on."""
    return {
        **versions(),
        "threads": torch.get_num_threads(),
        "kernels": bool(choice.built()),
    }
