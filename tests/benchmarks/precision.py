"""Measure the loss by rounded weights: bits a character of a validation split, as written.

python tests/benchmarks/precision.py RUN [SYMBOLS]
"""

import math
import sys
from pathlib import Path

import torch

from charlm import api
from charlm.sampling.engine import make_engine
from charlm.text import corpus

LANES, WARM_UP = 64, 192


def bits(loaded: api.Loaded, symbols: torch.Tensor, precision: str) -> float:
    """Score the text as LANES stretches side by side, each counted after WARM_UP symbols."""
    length = len(symbols) // LANES
    lanes = symbols[: LANES * length].view(LANES, length).t().contiguous()
    writer, nats, count = make_engine(loaded.model, LANES, precision), 0.0, 0
    for number in range(length - 1):
        logits = writer.read(lanes[number])
        if number >= WARM_UP:
            chosen = logits.double().log_softmax(-1).gather(-1, lanes[number + 1].unsqueeze(-1))
            nats -= chosen.sum().item()
            count += LANES
    return nats / count / math.log(2)


def main() -> None:
    loaded = api.load(Path(sys.argv[1]))
    data = loaded.checkpoint.config.data
    text = corpus.prepare(data, corpus.survey(data))
    split = text.splits[text.evaluated]
    stop = min(split.stop, split.start + int(sys.argv[2]) if len(sys.argv) > 2 else split.stop)
    symbols = torch.from_numpy(text.symbols[split.start : stop].astype("int64"))
    exact = bits(loaded, symbols, "float32")
    print(f"float32   {exact:.5f} bits a character of {len(symbols):,}")
    for precision in ("bfloat16", "int8"):
        found = bits(loaded, symbols, precision)
        print(f"{precision:<9} {found:.5f}, {found - exact:+.5f}")


if __name__ == "__main__":
    main()
