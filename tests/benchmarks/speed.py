"""charlm against stock PyTorch, in one run, in turn.

    python tests/benchmarks/speed.py [--only train|cells|sample] [--rounds 7] [--threads 2]

Training: beside the stock modules in float32 and under torch's bfloat16 autocast. Sampling, on one
thread: beside the stock module called once a character, and beside a plain loop over the equations,
with weights of the same precision (all in bare_loop.py). Every measurement is a process of its own;
those of a line follow each other, round by round, and the medians are compared. A machine with
nothing else to do is needed. Prints tables in Markdown.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BARE = str(Path(__file__).with_name("bare_loop.py"))
TRAIN: list[tuple[str, dict[str, str], int, int]] = [
    # cell, settings of its own, H, L
    ("lstm", {}, 256, 1),
    ("lstm", {}, 512, 2),
    ("gru", {}, 256, 1),
    ("gru", {}, 512, 2),
    ("gru", {"reset_gate": "before"}, 256, 1),  # beside nn.GRU, which has no such form
    ("rnn", {}, 256, 1),
]
CELLS = ((256, 1), (512, 2))
SAMPLE = (("lstm", 512, 2), ("gru", 512, 2))
PRECISIONS = ("float32", "bfloat16", "int8")
"""Of weights, the most exact first."""
PATIENCE = 4
"""A measurement that may be hopeless ends after so many times what those before it took."""


# ---- processes, in turn -------------------------------------------------------------------------


@dataclass
class Measured:
    """The speeds of one measurement, a round each. Units: characters a second.

    reason: why there are none. said: what else its last process printed.
    """

    speeds: list[float] = field(default_factory=list)
    reason: str = ""
    said: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float | None:
        return statistics.median(self.speeds) if self.speeds else None


def process(*words: str, limit: float | None = None) -> dict[str, Any]:
    """Run a script in a process of its own; return the JSON object that it prints last."""
    done = subprocess.run(
        [sys.executable, *words], stdout=subprocess.PIPE, text=True, check=True, timeout=limit
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def in_turn(
    rounds: int, measurements: dict[str, tuple[str, ...]], hopeless: str = ""
) -> dict[str, Measured]:
    """Run every measurement in every round.

    What says why it cannot be had is not run again; neither is `hopeless`, a measurement, where its
    first process takes PATIENCE times as long as the slowest one before it, or longer.
    """
    found = {name: Measured() for name in measurements}
    for number in range(rounds):
        slowest = 0.0
        for name, words in measurements.items():
            mine, limit = found[name], None
            if mine.reason:
                continue
            if name == hopeless and number == 0 and slowest:
                limit = PATIENCE * slowest
            began = time.perf_counter()
            try:
                mine.said = process(*words, limit=limit)
            except subprocess.TimeoutExpired:
                mine.reason = f"its process took over {PATIENCE} times as long as those beside it"
                continue
            slowest = max(slowest, time.perf_counter() - began)
            if mine.said["chars_per_second"] is None:
                mine.reason = mine.said["reason"]
            else:
                mine.speeds.append(mine.said["chars_per_second"])
    return found


def own(what: str, **arguments: Any) -> tuple[str, ...]:
    """Name the process that measures charlm: "train" or "sample"."""
    return (str(Path(__file__).resolve()), "--one", what, json.dumps(arguments))


def bare(what: str, cell: str, hidden: int, layers: int, threads: int, *more: str) -> Any:
    """Name the process that measures stock PyTorch: see bare_loop.py."""
    shape = ("--cell", cell, "--hidden", str(hidden), "--layers", str(layers))
    return (BARE, what, *shape, "--threads", str(threads), *more)


def shown(speed: float | None) -> str:
    """Format a speed, or that there is none."""
    return "-" if speed is None else f"{speed:,.0f}"


def table(*columns: str) -> None:
    """Print the head of a table."""
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")


def line(*cells: str) -> None:
    """Print a line of a table, as soon as it is known."""
    print(f"| {' | '.join(cells)} |", flush=True)


# ---- charlm's side: what runs in a process of its own -------------------------------------------


def learner(
    cell: str, hidden: int, layers: int, threads: int, options: dict[str, str] | None = None
) -> Any:
    """Build what trains as the plain loop does: embedding as wide as the layers, norm clipping."""
    import numpy as np
    import torch

    from charlm.config.schema import Config
    from charlm.training.learner import Learner

    torch.set_num_threads(threads)
    sizes = {"hidden_size": hidden, "num_layers": layers, "embedding_size": hidden}
    model = {"cell": cell, **sizes, "dropout": 0.0, **(options or {})}
    train = {"batch_size": 64, "sequence_length": 64, "clip_norm": 1.0, "steps": 10_000}
    train |= {"device": "cpu", "weight_average": 0.0, "state_reset": 0.0}
    symbols = np.random.default_rng(0).integers(0, 65, 500_000).astype(np.uint8)
    return Learner(Config.model_validate({"model": model, "train": train}), symbols, 65)


def charlm_train(arguments: dict[str, Any]) -> dict[str, Any]:
    """Measure whole steps of the learner, as many as bare_loop.py does."""
    model = learner(**arguments)
    seconds = []
    for number in range(3 + 9):
        began = time.perf_counter()
        model.take_step()
        if number >= 3:
            seconds.append(time.perf_counter() - began)
    return {
        "chars_per_second": 64 * 64 / statistics.median(seconds),
        "backend": model.backend.name,
        "precision": str(model.precision).removeprefix("torch."),
    }


def charlm_sample(arguments: dict[str, Any]) -> dict[str, Any]:
    """Measure the whole way of `charlm sample`, from seed to text."""
    from charlm.common.errors import UsageError
    from charlm.config.schema import SampleConfig
    from charlm.sampling.generate import Draw, Generation
    from charlm.text.vocabulary import Vocabulary

    precision = arguments.pop("precision")
    built = learner(**arguments, threads=1)  # compiles the kernels, where they are not there yet
    vocabulary = Vocabulary("char", "none", tuple(range(32, 32 + 65)), False)
    settings = SampleConfig(length=2000, temperature=0.8)
    seconds = []
    for _ in range(8):
        began = time.perf_counter()
        try:
            writing = Generation(built.model, vocabulary, settings, draw=Draw(precision=precision))
        except UsageError as error:
            return {"chars_per_second": None, "reason": error.what}
        text = "".join(writing)
        seconds.append(time.perf_counter() - began)
    return {
        "chars_per_second": len(text) / statistics.median(seconds[1:]),
        "backend": built.backend.name,
    }


# ---- the comparison -----------------------------------------------------------------------------


def compare_training(rounds: int, threads: int) -> None:
    """Print a line for every shape of TRAIN."""
    table(
        *("cell", "H x L", "charlm, chars/s", "charlm computes in", "stock, float32"),
        *("stock, bfloat16 autocast", "ratio to the better", "of matrix product"),
    )
    reasons: dict[str, None] = {}
    for cell, options, hidden, layers in TRAIN:
        shape = {"cell": cell, "hidden": hidden, "layers": layers, "threads": threads}
        found = in_turn(
            rounds,
            {
                "charlm": own("train", **shape, options=options),
                "float32": bare("train", **shape),
                "bfloat16": (*bare("train", **shape), "--autocast"),
            },
            hopeless="bfloat16",
        )
        charlm, said = found["charlm"].median or 0.0, found["charlm"].said
        stock = {name: found[name].median for name in ("float32", "bfloat16")}
        if found["bfloat16"].reason:
            reasons[f"{cell}: {found['bfloat16'].reason}"] = None
        name = " ".join([cell, *options.values()])
        line(
            *(name, f"{hidden} x {layers}", shown(charlm)),
            f"{said['precision']}, {said['backend']}",
            *map(shown, stock.values()),
            f"**{charlm / max(speed or 0.0 for speed in stock.values()):.2f}**",
            f"{charlm * operations(cell, hidden, layers) / rate(shape, said['precision']):.0%}",
        )
    for reason in reasons:
        print(f"\n- No bfloat16 autocast to compare with; {reason}.")


def operations(cell: str, hidden: int, layers: int) -> int:
    """Count what must be computed per training character: a product forward and two backward.

    Layer 0 looks its input up.
    """
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[cell]
    return 6 * (gates * hidden**2 * (2 * layers - 1) + hidden * 65)


def rate(shape: dict[str, Any], precision: str) -> float:
    """Measure operations a second of torch's matrix product at a shape and precision."""
    runs = [process(*bare("gemm", **shape), "--weights", precision) for _ in range(3)]
    return 1e9 * statistics.median(run["gflops"] for run in runs)


def compare_cells(rounds: int, threads: int) -> None:
    """Print the ratio of charlm's speeds in training a GRU and an LSTM."""
    table("both charlm, in turn", "gru, chars/s", "lstm, chars/s", "ratio")
    for hidden, layers in CELLS:
        shape = {"hidden": hidden, "layers": layers, "threads": threads}
        found = in_turn(
            rounds, {cell: own("train", cell=cell, **shape) for cell in ("gru", "lstm")}
        )
        gru, lstm = found["gru"].median or 0.0, found["lstm"].median or 1.0
        line(f"{hidden} x {layers}", shown(gru), shown(lstm), f"**{gru / lstm:.2f}**")


def compare_sampling(rounds: int) -> None:
    """Print a line for every cell of SAMPLE and every precision that charlm has here.

    The ratio is to the fastest stock figure of that precision or a more exact one.
    """
    table(
        *("cell", "H x L", "weights", "charlm, chars/s", "plain loop, same weights"),
        *("stock module, float32", "fastest stock figure", "ratio to it"),
    )
    reasons: dict[str, None] = {}
    for cell, hidden, layers in SAMPLE:
        shape = {"cell": cell, "hidden": hidden, "layers": layers}
        measurements = {"module": bare("sample", **shape, threads=1)}
        for precision in PRECISIONS:
            plain = bare("sample", **shape, threads=1)
            measurements[f"charlm, {precision}"] = own("sample", **shape, precision=precision)
            measurements[f"plain loop, {precision}"] = (*plain, "--plain", "--weights", precision)
        found = in_turn(rounds, measurements)
        rivals = {"module, float32": found["module"].median or 0.0}
        for precision in PRECISIONS:
            charlm, plain = (found[f"{name}, {precision}"] for name in ("charlm", "plain loop"))
            rivals[f"plain loop, {precision}"] = plain.median or 0.0
            for measured in (charlm, plain):
                if measured.reason:
                    reasons[measured.reason] = None
            best = max(rivals, key=lambda name: rivals[name])
            ratio = "-" if charlm.median is None else f"**{charlm.median / rivals[best]:.1f}**"
            line(
                *(cell, f"{hidden} x {layers}", precision),
                *(shown(m.median) for m in (charlm, plain, found["module"])),
                *(best, ratio),
            )
    for reason in reasons:
        print(f"\n- {reason}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("train", "cells", "sample"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2, help="of every training process")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        what, arguments = args.one
        run = {"train": charlm_train, "sample": charlm_sample}[what]
        print(json.dumps(run(json.loads(arguments))))
        return
    if args.only in (None, "train"):
        compare_training(args.rounds, args.threads)
    if args.only in (None, "cells"):
        compare_cells(args.rounds, args.threads)
    if args.only in (None, "sample"):
        compare_sampling(args.rounds)


if __name__ == "__main__":
    main()
