"""Benchmark of training and sampling on this machine: every cell at a few shapes, both backends.

The backends take turns in rounds, so that drift affects both alike.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from charlm.backends.device import use_threads, versions
from charlm.cells.base import ProjectedCell
from charlm.common.progress import track, within
from charlm.comparison.measured import BATCH, LENGTH, MeasuredModel, read_models
from charlm.config.schema import Config, SampleConfig
from charlm.models.recurrent import CharModel
from charlm.native import build
from charlm.native.interface import UNBOUNDED, Kernels
from charlm.sampling.engine import make_engine
from charlm.training.learner import Learner

VOCABULARY, WARM_UP = 65, 3
WRITTEN = 400
"""Symbols sampled per round, as a single text on one thread."""


@dataclass(frozen=True)
class Row:
    """The speeds of a cell at a shape. Units: symbols per second; shares of `matrix_rates` and
    `read_rate`.

    train: by backend, "native" and "torch". write: by precision of the weights. picked: the backend
    and the precision that "auto" stands for.
    """

    cell: str
    hidden_size: int
    num_layers: int
    picked: tuple[str, str]
    train: dict[str, float]
    matrix_share: float
    write: dict[str, float]
    read_share: float | None


def measure(cells: Sequence[str], shapes: Sequence[str], rounds: int) -> Iterator[Row]:
    """Measure every cell at every shape; yield a row for each. Raises: UsageError, ConfigError."""
    models = read_models(cells, shapes)
    for number, measured in enumerate(models):
        with within("measuring", number, number + 1, len(models)):
            row = _row(measured, rounds)
        yield row


def matrix_rates(hidden_size: int) -> dict[str, float]:
    """Measure operations per second of torch's product at the recurrent shape, by precision."""
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        left = torch.randn(BATCH, hidden_size).to(dtype)
        right = torch.randn(hidden_size, 4 * hidden_size).to(dtype)
        out = torch.empty(BATCH, 4 * hidden_size, dtype=dtype)
        seconds = _median(lambda a=left, b=right, c=out: torch.mm(a, b, out=c), 270, 20)  # type: ignore[misc]
        rates[str(dtype).removeprefix("torch.")] = 2 * out.numel() * hidden_size / seconds
    return rates


def read_rate(kernels: Kernels, size: int) -> float:
    """Measure bytes per second that one thread reads from a block of `size` bytes, repeatedly."""
    block = torch.ones(size // 512 * 512, dtype=torch.uint8)
    times = max(1, 10_000_000 // size)
    seconds = _median(
        lambda: kernels.call("read_bytes", "float32", block, len(block), times), 30, 3
    )
    return len(block) * times / seconds


def operations(model: CharModel) -> float:
    """Count the floating-point operations per training symbol: a product forward, two backward.

    The first layer's input weights are looked up, not multiplied, and are not counted.
    """
    matrices = [p.numel() for p in model.cells.parameters() if p.dim() == 2]
    first = model.layers()[0]
    looked_up = first.weight_ih.numel() if isinstance(first, ProjectedCell) else 0
    return 3 * 2 * (sum(matrices) - looked_up + model.head.weight.numel())


def _row(measured: MeasuredModel, rounds: int) -> Row:
    config = measured.config
    learners = {"native": _learner(config, "auto"), "torch": _learner(config, "torch")}
    picked = learners["native"].backend.name
    if picked == "torch":  # there is only one backend here
        learners = {"torch": learners["torch"]}
    seconds: dict[str, list[float]] = {name: [] for name in learners}
    for number in track(range(WARM_UP + rounds), "training", WARM_UP + rounds):
        for name, learner in learners.items():
            began = time.perf_counter()
            learner.take_step()
            if number >= WARM_UP:
                seconds[name].append(time.perf_counter() - began)
    speeds = {name: BATCH * LENGTH / statistics.median(took) for name, took in seconds.items()}
    fastest = learners[picked]
    precision = str(fastest.precision).removeprefix("torch.")
    rate = matrix_rates(config.model.hidden_size)[precision]
    write, read_share = _writing(fastest, rounds)
    return Row(
        measured.label,
        config.model.hidden_size,
        config.model.num_layers,
        (picked, precision),
        speeds,
        speeds[picked] * operations(fastest.model) / rate,
        write,
        read_share,
    )


def _learner(config: Config, backend: str) -> Learner:
    symbols = np.random.default_rng(0).integers(0, VOCABULARY, 500_000).astype(np.uint8)
    changed = config.model_copy(
        update={"train": config.train.model_copy(update={"backend": backend})}
    )
    return Learner(changed, symbols, VOCABULARY)


def _writing(learner: Learner, rounds: int) -> tuple[dict[str, float], float | None]:
    """Measure symbols per second by precision, and the share of the rate of reading the weights."""
    model, kernels = learner.model, learner.backend.kernels
    precisions = [name for name in ("float32", "bfloat16", "int8") if kernels]
    precisions = [name for name in precisions if kernels and name in kernels.types]
    if any(cell.variant in UNBOUNDED for cell in model.layers()):
        precisions = [name for name in precisions if name != "int8"]
    with use_threads(1):
        speeds = {
            precision: _writing_speed(learner, precision, rounds)
            for precision in precisions or ["float32"]
        }
        if kernels is None or "bfloat16" not in speeds:
            return speeds, None
        weights = operations(model) / 6  # the weights multiplied, and so read, per symbol
        return speeds, speeds["bfloat16"] * 2 * weights / read_rate(kernels, int(2 * weights))


def _writing_speed(learner: Learner, precision: str, rounds: int) -> float:
    writer = make_engine(learner.model, 1, precision)
    config = SampleConfig(temperature=0.8)
    uniforms = torch.rand(WRITTEN, 1, dtype=torch.float64)

    def write() -> None:
        for chunk in torch.split(uniforms, writer.chunk_size):
            writer.write(chunk, config, None)

    return WRITTEN / _median(write, rounds, 1)


def _median(call: Callable[[], object], rounds: int, warm_up: int) -> float:
    """Return the median seconds of a call."""
    for _ in range(warm_up):
        call()
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def environment() -> dict[str, object]:
    """Return versions, threads and kernels of this machine."""
    return {
        **versions(),
        "threads": torch.get_num_threads(),
        "kernels": build.decided(),
    }
