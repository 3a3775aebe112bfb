"""charlm beside plain PyTorch, in one run, in turn.

    python tests/benchmarks/speed.py [--rounds 7] [--only train|cells|sample]

Plain PyTorch is `bare_loop.py` beside this file. Every measurement is a process of its own; those
of a line follow each other, round by round, and the medians are compared, charlm's always with the
best that plain PyTorch has. A machine with nothing else to do is needed. Prints tables in Markdown.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TRAIN: list[tuple[str, dict[str, str], int, int]] = [
    # cell, settings of its own, H, L
    ("lstm", {}, 256, 1),
    ("lstm", {}, 512, 2),
    ("gru", {}, 256, 1),
    ("gru", {}, 512, 2),
    ("gru", {"reset_gate": "before"}, 256, 1),
    ("rnn", {}, 256, 1),
]
THREADS = 2
BARE = str(Path(__file__).with_name("bare_loop.py"))


def process(*words: str) -> Any:
    """Run Python with these words; return the JSON of its last line."""
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


# ---- charlm's side: what runs in a process of its own -------------------------------------------


def learner(cell: str, options: dict[str, str], hidden_size: int, num_layers: int) -> Any:
    """Make a learner as the plain loop is: an embedding as wide as the layers, AdamW, clipping."""
    import numpy as np
    import torch

    from charlm.backends.device import prepare_process
    from charlm.config.schema import Config
    from charlm.training.learner import Learner

    prepare_process(torch.device("cpu"), THREADS)
    sizes = {"hidden_size": hidden_size, "num_layers": num_layers, "embedding_size": hidden_size}
    model = {"cell": cell, **sizes, "dropout": 0.0, **options}
    train = {"batch_size": 64, "sequence_length": 64, "clip_norm": 1.0, "steps": 10_000}
    train |= {"device": "cpu", "weight_average": 0.0, "state_reset": 0.0}
    symbols = np.random.default_rng(0).integers(0, 65, 500_000).astype(np.uint8)
    return Learner(Config.model_validate({"model": model, "train": train}), symbols, 65)


def charlm_train(arguments: dict[str, Any]) -> dict[str, Any]:
    """Measure charlm's training, in the precision that it chooses by itself."""
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
    from charlm.config.schema import SampleConfig
    from charlm.errors import UsageError
    from charlm.sampling.generate import Generation
    from charlm.text.vocabulary import Vocabulary

    precision = arguments.pop("precision")
    model = learner(**arguments).model
    vocabulary = Vocabulary("char", "none", tuple(range(32, 32 + 65)), False)
    config = SampleConfig(length=2000, temperature=0.8)
    seconds = []
    for _ in range(8):
        began = time.perf_counter()
        try:
            text = "".join(Generation(model, vocabulary, config, precision=precision))
        except UsageError as error:
            return {"chars_per_second": None, "reason": error.what}
        seconds.append(time.perf_counter() - began)
    return {"chars_per_second": len(text) / statistics.median(seconds[1:])}


# ---- the comparison -----------------------------------------------------------------------------


def in_turn(rounds: int, **measurements: tuple[str, ...]) -> dict[str, Any]:
    """Measure each round by round; return medians of characters a second, None where there is
    none, and under "reasons" why."""
    found: dict[str, list[float]] = {name: [] for name in measurements}
    reasons: dict[str, str] = {}
    for _ in range(rounds):
        for name, words in measurements.items():
            if name in reasons:
                continue
            answer = process(*words)
            if answer["chars_per_second"] is None:
                reasons[name] = answer["reason"]
            else:
                found[name].append(answer["chars_per_second"])
    medians = {name: statistics.median(v) if v else None for name, v in found.items()}
    return {**medians, "reasons": reasons}


def own(what: str, **arguments: Any) -> tuple[str, ...]:
    return (__file__, "--one", what, json.dumps(arguments))


def shown(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def compare_training(rounds: int) -> None:
    """Print charlm beside the stock modules, in float32 and in bfloat16 autocast."""
    precision = process(*own("train", cell="rnn", options={}, hidden_size=32, num_layers=1))
    print(
        f"| cell | H x L | charlm, {precision['precision']} | stock float32 | "
        "stock bfloat16 autocast | charlm / best stock | of matrix product |"
    )
    print("|---|---|---|---|---|---|---|")
    reasons = {}
    for cell, options, hidden_size, num_layers in TRAIN:
        shape = ("--hidden", str(hidden_size), "--layers", str(num_layers))
        bare = (BARE, "train", "--cell", cell, *shape, "--threads", str(THREADS))
        sizes = {"hidden_size": hidden_size, "num_layers": num_layers}
        found = in_turn(
            rounds,
            charlm=own("train", cell=cell, options=options, **sizes),
            float32=bare,
            bfloat16=(*bare, "--autocast"),
        )
        reasons |= {f"stock bfloat16, {cell}": reason for reason in found["reasons"].values()}
        best = max(v for v in (found["float32"], found["bfloat16"]) if v)
        gemm = (BARE, "gemm", "--hidden", str(hidden_size), "--threads", str(THREADS))
        kind = f"{precision['precision']}_gflops"
        rate = statistics.median([process(*gemm)[kind] for _ in range(3)]) * 1e9
        gates = {"rnn": 1, "lstm": 4, "gru": 3}[cell]
        products = gates * hidden_size**2 * (2 * num_layers - 1) + hidden_size * 65
        print(
            f"| {' '.join([cell, *options.values()])} | {hidden_size} x {num_layers} | "
            f"{shown(found['charlm'])} | {shown(found['float32'])} | {shown(found['bfloat16'])} | "
            f"**{found['charlm'] / best:.2f}** | {found['charlm'] * 6 * products / rate:.0%} |",
            flush=True,
        )
    for what, reason in reasons.items():
        print(f"\n{what}: {reason}")


def compare_cells(rounds: int) -> None:
    """Print the GRU beside the LSTM, both charlm's."""
    for hidden_size, num_layers in ((256, 1), (512, 2)):
        shape = {"options": {}, "hidden_size": hidden_size, "num_layers": num_layers}
        cells = {cell: own("train", cell=cell, **shape) for cell in ("gru", "lstm")}
        found = in_turn(rounds, **cells)
        print(
            f"\ngru against lstm, both charlm, {hidden_size} x {num_layers}: "
            f"{shown(found['gru'])} / {shown(found['lstm'])} = "
            f"**{found['gru'] / found['lstm']:.2f}**",
            flush=True,
        )


def compare_sampling(rounds: int) -> None:
    """Print writing one text: charlm, a plain loop over the equations, the module per character."""
    print(
        "\n| cell, 512 x 2, one text, one thread | charlm float32 | bfloat16 | int8 | "
        "plain loop, float32 | module per character, float32 | charlm float32 / plain loop |"
    )
    print("|---|---|---|---|---|---|---|")
    for cell in ("lstm", "gru"):
        shape = {"cell": cell, "options": {}, "hidden_size": 512, "num_layers": 2}
        bare = (BARE, "sample", "--cell", cell, "--hidden", "512", "--layers", "2")
        found = in_turn(
            rounds,
            **{p: own("sample", **shape, precision=p) for p in ("float32", "bfloat16", "int8")},
            plain=(*bare, "--plain", "--threads", "1"),
            module=(*bare, "--threads", "1"),
        )
        best = max(found["plain"], found["module"])
        columns = ("float32", "bfloat16", "int8", "plain", "module")
        print(
            f"| {cell} | {' | '.join(shown(found[name]) for name in columns)} | "
            f"**{found['float32'] / best:.2f}** |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=("train", "cells", "sample"))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        what, arguments = args.one
        run = {"train": charlm_train, "sample": charlm_sample}[what]
        print(json.dumps(run(json.loads(arguments))))
        return
    does = {"train": compare_training, "cells": compare_cells, "sample": compare_sampling}
    for name, compare in does.items():
        if args.only in (None, name):
            compare(args.rounds)


if __name__ == "__main__":
    main()
