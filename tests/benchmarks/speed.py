"""charlm against a plain loop around stock PyTorch modules, in one run, in turn.

    python tests/benchmarks/speed.py BARE_LOOP [--rounds 7] [--only train|cells|sample]

BARE_LOOP is a script with `train`, `sample` and `gemm` that prints {"chars_per_second": ...}. Every
measurement is a process of its own; those of a line follow each other, round by round, and the
medians are compared. A machine with nothing else to do is needed. Prints a table in Markdown.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import Any

TRAIN = [
    # cell, settings of its own, H, L, goal against the plain loop
    ("lstm", {}, 256, 1, 2.2),
    ("lstm", {}, 512, 2, 2.2),
    ("gru", {}, 256, 1, 4.0),
    ("gru", {}, 512, 2, 4.0),
    ("gru", {"reset_gate": "before"}, 256, 1, 3.5),
    ("rnn", {}, 256, 1, 3.0),
]
SAMPLE = [
    # cell, threads of the plain loop, goals in bfloat16 and in int8
    ("lstm", None, 25.0, 45.0),
    ("gru", 1, 2.5, 5.0),
]
THREADS = 2


def process(*words: str) -> Any:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


# ---- charlm's side: what runs in a process of its own -------------------------------------------


def learner(cell: str, options: dict[str, str], hidden_size: int, num_layers: int) -> Any:
    """As the plain loop: an embedding as wide as the layers, AdamW, norm clipping."""
    import numpy as np
    import torch

    from charlm.config.schema import Config
    from charlm.training.learner import Learner

    torch.set_num_threads(THREADS)
    sizes = {"hidden_size": hidden_size, "num_layers": num_layers, "embedding_size": hidden_size}
    model = {"cell": cell, **sizes, "dropout": 0.0, **options}
    train = {"batch_size": 64, "sequence_length": 64, "clip_norm": 1.0, "steps": 10_000}
    train |= {"device": "cpu", "weight_average": 0.0, "state_reset": 0.0}
    symbols = np.random.default_rng(0).integers(0, 65, 500_000).astype(np.uint8)
    return Learner(Config.model_validate({"model": model, "train": train}), symbols, 65)


def charlm_train(arguments: dict[str, Any]) -> dict[str, Any]:
    model = learner(**arguments)
    seconds = []
    for number in range(3 + 9):
        began = time.perf_counter()
        model.take_step()
        if number >= 3:
            seconds.append(time.perf_counter() - began)
    return {"chars_per_second": 64 * 64 / statistics.median(seconds), "engine": model.engine.name}


def charlm_sample(arguments: dict[str, Any]) -> dict[str, Any]:
    """The whole way of `charlm sample`, from seed to text."""
    from charlm.config.schema import SampleConfig
    from charlm.sampling.generate import generate
    from charlm.text.vocabulary import Vocabulary

    precision = arguments.pop("precision")
    model = learner(**arguments).model
    vocabulary = Vocabulary("char", "none", tuple(range(32, 32 + 65)), False)
    settings = SampleConfig(length=2000, temperature=0.8)
    seconds = []
    for _ in range(8):
        began = time.perf_counter()
        text = "".join(generate(model, vocabulary, settings, precision=precision))
        seconds.append(time.perf_counter() - began)
    return {"chars_per_second": len(text) / statistics.median(seconds[1:])}


# ---- the comparison -----------------------------------------------------------------------------


def in_turn(rounds: int, **measurements: tuple[str, ...]) -> dict[str, list[float]]:
    """Characters a second of each, round by round."""
    found: dict[str, list[float]] = {name: [] for name in measurements}
    for _ in range(rounds):
        for name, words in measurements.items():
            found[name].append(process(*words)["chars_per_second"])
    return found


def own(what: str, **arguments: Any) -> tuple[str, ...]:
    return (__file__, "--one", what, json.dumps(arguments))


def median(values: list[float]) -> float:
    return statistics.median(values)


def compare_training(bare: str, rounds: int) -> None:
    print("| cell | H x L | charlm, chars/s | plain, chars/s | ratio | goal | of matrix product |")
    print("|---|---|---|---|---|---|---|")
    for cell, options, hidden_size, num_layers, goal in TRAIN:
        shape = ("--hidden", str(hidden_size), "--layers", str(num_layers))
        found = in_turn(
            rounds,
            charlm=own(
                "train", cell=cell, options=options, hidden_size=hidden_size, num_layers=num_layers
            ),
            bare=(bare, "train", "--cell", cell, *shape, "--threads", str(THREADS)),
        )
        charlm, plain = median(found["charlm"]), median(found["bare"])
        rates = [
            process(bare, "gemm", "--hidden", str(hidden_size), "--threads", str(THREADS))
            for _ in range(3)
        ]
        rate = median([r["bfloat16_gflops"] for r in rates]) * 1e9
        gates = {"rnn": 1, "lstm": 4, "gru": 3}[cell]
        products = gates * hidden_size**2 * (2 * num_layers - 1) + hidden_size * 65
        name = " ".join([cell, *options.values()])
        print(
            f"| {name} | {hidden_size} x {num_layers} | {charlm:,.0f} | {plain:,.0f} | "
            f"**{charlm / plain:.2f}** | {goal} | {charlm * 6 * products / rate:.0%} |",
            flush=True,
        )


def compare_cells(rounds: int) -> None:
    for hidden_size, num_layers in ((256, 1), (512, 2)):
        shape = {"options": {}, "hidden_size": hidden_size, "num_layers": num_layers}
        found = in_turn(
            rounds, **{cell: own("train", cell=cell, **shape) for cell in ("gru", "lstm")}
        )
        gru, lstm = median(found["gru"]), median(found["lstm"])
        print(
            f"\ngru against lstm, both charlm, {hidden_size} x {num_layers}: {gru:,.0f} / "
            f"{lstm:,.0f} = **{gru / lstm:.2f}** (goal 1.25)",
            flush=True,
        )


def compare_sampling(bare: str, rounds: int) -> None:
    print("\n| cell, 512 x 2 | weights | charlm, chars/s | plain loop, chars/s | ratio | goal |")
    print("|---|---|---|---|---|---|")
    for cell, threads, *goals in SAMPLE:
        limit = ("--threads", str(threads)) if threads else ()
        shape = {"cell": cell, "options": {}, "hidden_size": 512, "num_layers": 2}
        found = in_turn(
            rounds,
            bfloat16=own("sample", **shape, precision="bfloat16"),
            int8=own("sample", **shape, precision="int8"),
            bare=(bare, "sample", "--cell", cell, "--hidden", "512", "--layers", "2", *limit),
        )
        plain = median(found["bare"])
        for name, goal in zip(("bfloat16", "int8"), goals, strict=True):
            speed = median(found[name])
            print(
                f"| {cell} | {name} | {speed:,.0f} | {plain:,.0f} | "
                f"**{speed / plain:.1f}** | {goal} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bare", nargs="?")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=("train", "cells", "sample"))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        what, arguments = args.one
        run = {"train": charlm_train, "sample": charlm_sample}[what]
        print(json.dumps(run(json.loads(arguments))))
        return
    if not args.bare and args.only != "cells":
        parser.error("give the script to compare with")
    if args.only in (None, "train"):
        compare_training(args.bare, args.rounds)
    if args.only in (None, "cells"):
        compare_cells(args.rounds)
    if args.only in (None, "sample"):
        compare_sampling(args.bare, args.rounds)


if __name__ == "__main__":
    main()
