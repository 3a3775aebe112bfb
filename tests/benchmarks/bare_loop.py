"""What a user would write without charlm, in PyTorch alone: the yardstick of every speed claim.

    python bare_loop.py train  --cell gru --hidden 256 --layers 1 [--autocast]
    python bare_loop.py sample --cell lstm --hidden 512 --layers 2 [--plain]
    python bare_loop.py gemm   --hidden 256
    python bare_loop.py check

Each prints one JSON object. `train` is nn.Embedding, nn.RNN/GRU/LSTM, nn.Linear: truncated BPTT
with the state carried over, fused AdamW, norm clipping, on random characters, in float32 or, with
--autocast, in bfloat16 autocast. `sample` feeds one character at a time back into the same module;
with --plain it computes the equations with torch operations in a plain loop instead, as fast as
they go: the input's share looked up in a table, no module called per character, weights laid out so
that a product streams through them once. `gemm` is the machine's own matrix-product rate at the
recurrent shape. `check` compares the plain loop with the modules.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MODULES = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
TEMPERATURE = 0.8


class BareModel(nn.Module):
    """Embedding, a stock recurrent module, head."""

    def __init__(self, cell: str, vocabulary: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.recurrent = MODULES[cell](hidden, hidden, layers)
        self.head = nn.Linear(hidden, vocabulary)

    def forward(self, characters: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return the logits and the state after. Shapes: characters [T, B]; logits [T, B, V]."""
        output, state = self.recurrent(self.embedding(characters), state)
        return self.head(output), state


class PlainLoop:
    """Computes a `BareModel` of one text by its equations, a character at a time."""

    def __init__(self, model: BareModel, cell: str) -> None:
        self.cell, recurrent = cell, model.recurrent
        layers = range(recurrent.num_layers)

        def streamed(name: str) -> list[Tensor]:
            weights = (getattr(recurrent, f"{name}_l{layer}").detach() for layer in layers)
            return [w.t().contiguous().t() if w.dim() == 2 else w for w in weights]

        self.w_ih, self.w_hh = streamed("weight_ih"), streamed("weight_hh")
        self.b_ih, self.b_hh = streamed("bias_ih"), streamed("bias_hh")
        self.table = F.linear(model.embedding.weight.detach(), self.w_ih[0], self.b_ih[0])
        head = model.head.weight.detach()
        self.head = (head.t().contiguous().t(), model.head.bias.detach())
        zeros = torch.zeros(1, recurrent.hidden_size)
        self.h = [zeros.clone() for _ in layers]
        self.c = [zeros.clone() for _ in layers]

    def read(self, character: Tensor) -> Tensor:
        """Return the logits after one more character. Shapes: [1] to [1, V]."""
        x = self.table[character]
        for layer in range(len(self.h)):
            if layer:
                x = F.linear(self.h[layer - 1], self.w_ih[layer], self.b_ih[layer])
            product = F.linear(self.h[layer], self.w_hh[layer], self.b_hh[layer])
            self.h[layer] = self._step(x, product, layer)
        return F.linear(self.h[-1], *self.head)

    def _step(self, x: Tensor, product: Tensor, layer: int) -> Tensor:
        if self.cell == "rnn":
            return torch.tanh(x + product)
        if self.cell == "gru":
            size = product.shape[1] // 3
            r, z = torch.sigmoid(x[:, : 2 * size] + product[:, : 2 * size]).chunk(2, 1)
            n = torch.tanh(torch.addcmul(x[:, 2 * size :], r, product[:, 2 * size :]))
            return torch.lerp(n, self.h[layer], z)
        i, f, g, o = (x + product).chunk(4, 1)
        write = torch.sigmoid(i) * torch.tanh(g)
        self.c[layer] = torch.addcmul(write, torch.sigmoid(f), self.c[layer])
        return torch.sigmoid(o) * torch.tanh(self.c[layer])


def detach(state: Any) -> Any:
    """Cut a state from the graph that made it."""
    return tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()


def timed(step: Callable[[], object], repeats: int, warmup: int) -> float:
    """Return the median seconds of a call."""
    for _ in range(warmup):
        step()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Measure training."""
    model = BareModel(args.cell, args.vocabulary, args.hidden, args.layers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    inputs = torch.randint(args.vocabulary, (args.length, args.batch))
    targets = torch.randint(args.vocabulary, (args.length, args.batch))
    carried: Any = None

    def step() -> None:
        nonlocal carried
        with torch.autocast("cpu", torch.bfloat16, enabled=args.autocast):
            logits, state = model(inputs, carried)
        carried = detach(state)
        loss = F.cross_entropy(logits.float().view(-1, args.vocabulary), targets.view(-1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    try:
        seconds = timed(step, args.repeats, 3)
    except RuntimeError as error:  # no such primitive on this processor
        return {"chars_per_second": None, "reason": str(error).partition(". ")[0]}
    return {"chars_per_second": args.batch * args.length / seconds}


@torch.inference_mode()
def sample(args: argparse.Namespace) -> dict[str, Any]:
    """Measure writing one text."""
    model = BareModel(args.cell, args.vocabulary, args.hidden, args.layers).eval()
    loop, character, state = PlainLoop(model, args.cell), torch.zeros(1, dtype=torch.long), None

    def step() -> None:
        nonlocal character, state
        if args.plain:
            logits = loop.read(character)
        else:
            output, state = model(character.view(1, 1), state)
            logits = output[0]
        character = torch.multinomial(F.softmax(logits / TEMPERATURE, -1), 1)[0]

    return {"chars_per_second": 1 / timed(step, 50 * args.repeats, 20)}


def gemm(args: argparse.Namespace) -> dict[str, Any]:
    """Measure matrix products at the recurrent shape."""
    rates = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        left = torch.randn(args.batch, args.hidden).to(dtype)
        right = torch.randn(args.hidden, 4 * args.hidden).to(dtype)
        out = torch.empty(args.batch, 4 * args.hidden, dtype=dtype)
        seconds = timed(lambda a=left, b=right, c=out: torch.mm(a, b, out=c), 270, 20)  # type: ignore[misc]
        rates[f"{name}_gflops"] = 2 * left.numel() * 4 * args.hidden / seconds / 1e9
    return rates


@torch.inference_mode()
def check(args: argparse.Namespace) -> dict[str, Any]:
    """Compare the plain loop with the modules; the largest difference of a logit, by cell."""
    found = {}
    for cell in MODULES:
        model = BareModel(cell, args.vocabulary, 64, 2).eval()
        loop, text = PlainLoop(model, cell), torch.randint(args.vocabulary, (20, 1))
        expected, _ = model(text)
        logits = torch.stack([loop.read(character) for character in text])
        found[cell] = (logits - expected).abs().max().item()
        assert found[cell] < 1e-5, found
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("train", "sample", "gemm", "check"))
    parser.add_argument("--cell", default="lstm", choices=tuple(MODULES))
    for name, default in (("hidden", 256), ("layers", 1), ("batch", 64), ("length", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--vocabulary", type=int, default=65)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--autocast", action="store_true")
    parser.add_argument("--plain", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    does = {"train": train, "sample": sample, "gemm": gemm, "check": check}
    print(json.dumps({**vars(args), **does[args.what](args)}))


if __name__ == "__main__":
    main()
