"""Digests of what every cell has learned after a short training, by each backend.

    python tests/benchmarks/bits.py > before   (then change the code)
    python tests/benchmarks/bits.py | diff before -

A change that only moves or renames code leaves all of them as they are, on the same machine.
"""

import contextlib
import hashlib
import io
import os
import tempfile
from itertools import product
from pathlib import Path

import charlm

CELLS = {
    "rnn": [],
    "rnn:relu": ["model.nonlinearity=relu"],
    "lstm": [],
    "gru": [],
    "gru:before": ["model.reset_gate=before"],
    "mingru": [],
    "minlstm": [],
    "indrnn": [],
    "lstm:2": ["model.num_layers=2", "model.dropout=0.2"],
}
COMPUTED = (("torch", "float32"), ("native", "float32"), ("native", "bfloat16"))
SETTINGS = [
    *("model.hidden_size=48", "train.steps=40", "train.eval_every=20", "train.batch_size=8"),
    *("train.sequence_length=16", "train.device=cpu", "train.weight_average=0.9"),
]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for (name, changes), (backend, precision) in product(CELLS.items(), COMPUTED):
            run = f"{name.replace(':', '-')}-{backend}-{precision}"
            chosen = [f"train.backend={backend}", f"train.precision={precision}"]
            cell = [f"model.cell={name.partition(':')[0]}", *changes]
            try:
                with contextlib.redirect_stderr(io.StringIO()):
                    charlm.train("python", set=[*SETTINGS, *cell, *chosen], run=run)
            except charlm.CharlmError as error:  # a type that this processor does not have
                print(f"{name:12} {backend:7} {precision:9} {error.what}")
                continue
            last = Path(run, "checkpoints", Path(run, "checkpoints", "latest").read_text().strip())
            digest = hashlib.sha256()
            for file in sorted(last.glob("*.safetensors")):
                digest.update(file.read_bytes())
            print(f"{name:12} {backend:7} {precision:9} {digest.hexdigest()[:16]}", flush=True)


if __name__ == "__main__":
    main()
