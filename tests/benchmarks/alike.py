"""Compare what the backends learn: the validation of each after the same steps.

    python tests/benchmarks/alike.py TEXT [--steps 800] [--seeds 3]

One layer of 128 units, everything else as in the preset `compare`; bits a character, mean and
standard deviation over the seeds, as a table in Markdown.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile

BACKENDS = {
    "torch, float32": ("train.backend=torch", "train.precision=float32"),
    "native, float32": ("train.backend=native", "train.precision=float32"),
    "native, bfloat16": ("train.backend=native", "train.precision=bfloat16"),
}


def bits(text: str, run: str, settings: tuple[str, ...]) -> float:
    words = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "charlm", "train", "compare", "--data", text, "--run", run]
    done = subprocess.run(
        [*command, *words, "--json"], stdout=subprocess.PIPE, text=True, check=True
    )
    return float(json.loads(done.stdout)["best"]["bits_per_character"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    print(f"| 128 units | {' | '.join(BACKENDS)} |\n|---|{'---|' * len(BACKENDS)}")
    for cell in ("rnn", "lstm", "gru"):
        row = []
        for settings in BACKENDS.values():
            found = []
            for seed in range(args.seeds):
                common = (f"model.cell={cell}", "model.hidden_size=128", "model.num_layers=1")
                steps = (f"train.steps={args.steps}", f"train.seed={seed}")
                with tempfile.TemporaryDirectory() as folder:
                    found.append(bits(args.text, f"{folder}/run", (*common, *steps, *settings)))
            row.append(f"{statistics.mean(found):.4f} ± {statistics.stdev(found):.4f}")
        print(f"| {cell} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
