"""Train and sample in stock PyTorch, as without charlm: the yardstick of every comparison here.

    python tests/benchmarks/bare_loop.py train  --cell gru --hidden 256 --layers 1 [--autocast]
    python tests/benchmarks/bare_loop.py sample --cell lstm --hidden 512 --layers 2
    python tests/benchmarks/bare_loop.py sample --plain --weights int8 --cell gru [--check]
    python tests/benchmarks/bare_loop.py gemm   --hidden 256 --batch 64

Each prints one JSON object. `train`: nn.Embedding -> nn.RNN/GRU/LSTM -> nn.Linear on random
characters, truncated BPTT with the state carried over, fused AdamW, norm clipping; in float32, or
with --autocast under torch's bfloat16 autocast. `sample` feeds one character at a time back into
the same modules. `sample --plain` computes the same equations by torch operations, without a module
(see `PlainLoop`), and first asserts that its logits are the module's; with --check that is all it
does. `gemm` is the rate of torch's own matrix product at the recurrent shape.

What cannot be had on this processor gives {"chars_per_second": null, "reason": "..."}.
"""

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TEMPERATURE = 0.8
STRETCH = 50
"""Characters that are written between two looks at the clock."""
CHECKED = 24
"""Characters whose logits are compared with the module's."""
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.01, "int8": 0.03}
"""Largest distance of logits, of size 0.3 or so, from the module's in float32."""

State = Tensor | tuple[Tensor, Tensor] | None
Product = Callable[[Tensor, Tensor], Tensor]
"""From a vector and a bias to W vector + bias, in float32."""


class BareModel(nn.Module):
    """Stock modules, one after another."""

    def __init__(self, cell: str, vocabulary: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.cell = cell
        self.embedding = nn.Embedding(vocabulary, hidden)
        module = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell]
        self.recurrent = module(hidden, hidden, layers)
        self.head = nn.Linear(hidden, vocabulary)

    def forward(self, characters: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Compute the logits of every character's successor. Shapes: [T, B] -> [T, B, V]."""
        output, state = self.recurrent(self.embedding(characters), state)
        return self.head(output), state


# ---- training -----------------------------------------------------------------------------------


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Measure training steps: forward, backward, clipping, optimizer."""
    model = new_model(args)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    inputs = torch.randint(args.vocabulary, (args.length, args.batch))
    targets = torch.randint(args.vocabulary, (args.length, args.batch))
    carried: State = None

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
    except RuntimeError as error:
        if not args.autocast:
            raise
        said = str(error).split(". ")[0].splitlines()[0]
        return {"chars_per_second": None, "reason": f"{type(model.recurrent).__name__}: {said}"}
    return {"chars_per_second": args.batch * args.length / seconds}


def detach(state: State) -> State:
    """Cut the state off from the window that it comes from."""
    if state is None:
        return None
    return (state[0].detach(), state[1].detach()) if isinstance(state, tuple) else state.detach()


# ---- sampling, the module called once a character -----------------------------------------------


@torch.inference_mode()
def sample(args: argparse.Namespace) -> dict[str, Any]:
    """Measure writing: a character drawn, the module called with it, and so on."""
    if args.plain:
        return sample_plain(args)
    model = new_model(args).eval()
    character = torch.zeros(1, 1, dtype=torch.long)
    state: State = None

    def write() -> None:
        nonlocal character, state
        for _ in range(STRETCH):
            logits, state = model(character, state)
            character = torch.multinomial(F.softmax(logits[0] / TEMPERATURE, -1), 1)

    return {"chars_per_second": STRETCH / timed(write, args.repeats, 1)}


# ---- sampling, the equations in a plain loop ----------------------------------------------------


def sample_plain(args: argparse.Namespace) -> dict[str, Any]:
    """Check the plain loop against the module, then measure it as `sample` does."""
    model = new_model(args).eval()
    try:
        loop = PlainLoop(model, args.weights)
    except (RuntimeError, AttributeError) as error:  # a later torch may be without int8
        return {"chars_per_second": None, "reason": str(error).splitlines()[0]}
    difference = largest_difference(model, loop)
    assert difference < TOLERANCE[args.weights], difference
    if args.check:
        return {"largest_difference": difference}
    logits = loop.read(0)

    def write() -> None:
        nonlocal logits
        for _ in range(STRETCH):
            probabilities = F.softmax(logits / TEMPERATURE, -1)
            logits = loop.read(int(torch.multinomial(probabilities, 1)))

    return {
        "chars_per_second": STRETCH / timed(write, args.repeats, 1),
        "largest_difference": difference,
    }


class PlainLoop:
    """The equations of nn.RNN, nn.GRU or nn.LSTM for one character of one text at a time.

    As fast as torch operations give it: what layer 0 gets from a character is a row of a table made
    once; biases are merged; every matrix is laid out as this processor multiplies it fastest; the
    states of all layers lie in one vector, so that an LSTM or RNN layer reads the state below and
    its own in one product; element-wise work is done in place.

    weights: "float32", "bfloat16", or "int8" (torch's dynamically quantized linear operation: a
    scale for each row, states quantized at every product). Everything else is float32.
    """

    def __init__(self, model: BareModel, weights: str) -> None:
        stack, H = model.recurrent, model.recurrent.hidden_size
        self.read_layer = {"rnn": self._rnn, "gru": self._gru, "lstm": self._lstm}[model.cell]
        self.hidden = torch.zeros(stack.num_layers * H)
        self.h = self.hidden.split(H)
        self.c = [torch.zeros(H) for _ in self.h]
        self.inputs = [self.h[0], *self.hidden.unfold(0, 2 * H, H).unbind(0)]
        """Inputs of the joined products: each layer's state, with the one below before it."""
        self.products: list[tuple[Product, ...]] = []
        self.biases: list[Tensor] = []
        self.bias_n: list[Tensor] = []
        """Of the GRU's recurrent product, where the reset gate acts on the candidate's part."""
        for layer in range(stack.num_layers):
            w_ih, w_hh, b_ih, b_hh = (
                in_order(getattr(stack, f"{name}_l{layer}").detach(), model.cell)
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            inside = b_hh.clone() if model.cell == "gru" else torch.zeros_like(b_hh)
            inside[: 2 * H] = 0
            self.bias_n.append(inside)
            self.biases.append(b_ih + b_hh - inside)
            if layer == 0:
                table = F.linear(model.embedding.weight, w_ih, self.biases[0])
                self.table = [row.contiguous() for row in table.unbind(0)]
                used = [w_hh]
            else:
                used = [w_hh, w_ih] if model.cell == "gru" else [torch.cat([w_ih, w_hh], 1)]
            self.products.append(tuple(fastest_product(w, weights) for w in used))
        self.head = fastest_product(model.head.weight.detach(), weights)
        self.head_bias = model.head.bias.detach()

    def read(self, character: int) -> Tensor:
        """Read one more character; return the logits of its successor, [V]."""
        for layer in range(len(self.h)):
            self.read_layer(layer, self.biases[layer] if layer else self.table[character])
        return self.head(self.h[-1], self.head_bias)

    def _rnn(self, layer: int, given: Tensor) -> None:
        (product,) = self.products[layer]
        torch.tanh(product(self.inputs[layer], given), out=self.h[layer])

    def _lstm(self, layer: int, given: Tensor) -> None:
        (product,) = self.products[layer]
        h, c = self.h[layer], self.c[layer]
        gates = product(self.inputs[layer], given).view(4, -1)
        gates[:3].sigmoid_()
        i, f, o, g = gates.unbind(0)
        c.mul_(f).addcmul_(i, g.tanh_())
        torch.mul(o, torch.tanh(c), out=h)

    def _gru(self, layer: int, given: Tensor) -> None:
        h = self.h[layer]
        if layer:
            given = self.products[layer][1](self.h[layer - 1], given)
        x = given.view(3, -1)
        own = self.products[layer][0](h, self.bias_n[layer]).view(3, -1)
        r, z = own[:2].add_(x[:2]).sigmoid_().unbind(0)
        n = torch.addcmul(x[2], r, own[2]).tanh_()
        torch.lerp(n, h, z, out=h)


def in_order(parameter: Tensor, cell: str) -> Tensor:
    """Bring an LSTM's gates from i, f, g, o to i, f, o, g, so that one sigmoid does for three."""
    if cell != "lstm":
        return parameter
    i, f, g, o = parameter.chunk(4)
    return torch.cat([i, f, o, g])


def fastest_product(weight: Tensor, weights: str) -> Product:
    """Try torch's ways to multiply this matrix by a vector; return the fastest here."""
    rows = weight.contiguous()
    columns = weight.t().contiguous().t()  # streams through the matrix once, a column at a time
    if weights == "float32":
        ways: list[Product] = [
            lambda x, bias: F.linear(x, rows, bias),
            lambda x, bias: F.linear(x, columns, bias),
        ]
    elif weights == "bfloat16":
        short, short_columns = rows.bfloat16(), columns.bfloat16()
        ways = [
            lambda x, bias: bias + torch.mv(short, x.bfloat16()),
            lambda x, bias: bias + torch.mv(short_columns, x.bfloat16()),
            lambda x, bias: bias + F.linear(x.bfloat16().unsqueeze(0), short)[0],
        ]
    else:
        scales = weight.abs().amax(1) / 127
        zeros = torch.zeros(len(weight), dtype=torch.long)
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # "deprecated"
            quantized = torch.quantize_per_channel(rows, scales, zeros, 0, torch.qint8)
        packed = torch.ops.quantized.linear_prepack(quantized, None)
        multiply = torch.ops.quantized.linear_dynamic
        # reduce_range: seven bits of the state, since without VNNI sums of eight would overflow
        ways = [lambda x, bias: multiply(x.unsqueeze(0), packed, True)[0] + bias]
    vector, bias = torch.rand(weight.shape[1]) - 0.5, torch.zeros(len(weight))
    return min(ways, key=lambda way: timed(lambda: way(vector, bias), 15, 3))


def largest_difference(model: BareModel, loop: PlainLoop) -> float:
    """Compare the loop's logits with the module's over a short text, from the zero state."""
    text = torch.randint(model.embedding.num_embeddings, (CHECKED, 1))
    expected, _ = model(text)
    found = torch.stack([loop.read(character) for character in text.flatten().tolist()])
    return (found - expected[:, 0]).abs().max().item()


# ---- matrix products, and what all measurements share -------------------------------------------


def gemm(args: argparse.Namespace) -> dict[str, Any]:
    """Measure operations a second of torch.mm at B x H x 4H, in the type of --weights."""
    dtype = getattr(torch, args.weights)
    left = torch.randn(args.batch, args.hidden).to(dtype)
    right = torch.randn(args.hidden, 4 * args.hidden).to(dtype)
    out = torch.empty(args.batch, 4 * args.hidden, dtype=dtype)
    seconds = timed(lambda: torch.mm(left, right, out=out), 30 * args.repeats, 20)
    return {"gflops": 2 * left.numel() * 4 * args.hidden / seconds / 1e9}


def new_model(args: argparse.Namespace) -> BareModel:
    """Build the model that the options describe."""
    return BareModel(args.cell, args.vocabulary, args.hidden, args.layers)


def timed(step: Callable[[], object], repeats: int, warmup: int) -> float:
    """Return the median of the seconds that a step takes."""
    for _ in range(warmup):
        step()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("train", "sample", "gemm"))
    parser.add_argument("--cell", default="lstm", choices=("rnn", "gru", "lstm"))
    for name, default in (("hidden", 256), ("layers", 1), ("batch", 64), ("length", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--vocabulary", type=int, default=65)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--autocast", action="store_true", help="train: bfloat16 autocast")
    parser.add_argument("--plain", action="store_true", help="sample: no module, the equations")
    parser.add_argument("--weights", default="float32", choices=tuple(TOLERANCE), help="of --plain")
    parser.add_argument("--check", action="store_true", help="--plain: compare with the module")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    result = {"train": train, "sample": sample, "gemm": gemm}[args.what](args)
    print(json.dumps({**vars(args), **result}))


if __name__ == "__main__":
    main()
