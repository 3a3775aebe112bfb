"""The newer cells against their papers' equations, in plain numbers and without stabilisation.

One lane, float64, numpy alone; parameters, inputs and states are drawn at random.
"""

import math

import numpy as np
import pytest
import torch
from test_equations import BIAS, TOLERANCE, VARIANTS, B, H, I, T, made, random_inputs

from charlm.cells import CELLS
from charlm.cells.base import Cell, State
from charlm.cells.matrix import MatrixCell

NEW = [name for name, options in VARIANTS if not options and name != "lstm"]


def sigma(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


class Numbers:
    """Parameters of a cell as arrays, with zeros for biases that it does not have."""

    def __init__(self, cell: Cell) -> None:
        self.own = {name: value.detach().numpy() for name, value in cell.named_parameters()}

    def blocks(self, name: str, count: int, prefix: str = "") -> list[np.ndarray]:
        """The gate blocks of a weight, or of a bias."""
        rows = len(self.own[f"{prefix}weight_ih"])
        return np.split(self.own.get(prefix + name, np.zeros(rows)), count)

    def gates(self, count: int, x: np.ndarray, h: np.ndarray | None, prefix: str = "") -> list:
        """W x + U h + b of every gate."""
        found = [w @ x for w in self.blocks("weight_ih", count, prefix)]
        for bias in ("bias_ih", "bias_hh"):
            found = [a + b for a, b in zip(found, self.blocks(bias, count, prefix), strict=True)]
        if h is None:
            return found
        return [
            a + u @ h for a, u in zip(found, self.blocks("weight_hh", count, prefix), strict=True)
        ]


def lstm(own: Numbers, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, ...]:
    i, f, g, o = own.gates(4, x, h, "lstm.")
    c = sigma(f) * c + sigma(i) * np.tanh(g)
    return sigma(o) * np.tanh(c), c


def mingru(own: Numbers, x: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, ...]:
    z, candidate = own.gates(2, x, None)
    return ((1 - sigma(z)) * h + sigma(z) * candidate,)


def minlstm(own: Numbers, x: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, ...]:
    f, i, candidate = own.gates(3, x, None)
    f, i = sigma(f), sigma(i)
    return (f / (f + i) * h + i / (f + i) * candidate,)


def indrnn(own: Numbers, x: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, ...]:
    (a,) = own.gates(1, x, None)
    return (np.maximum(0, a + own.own["weight_hh"] * h),)


def multiplicative(
    own: Numbers, x: np.ndarray, h: np.ndarray, c: np.ndarray
) -> tuple[np.ndarray, ...]:
    return lstm(own, x, (own.own["weight_mx"] @ x) * (own.own["weight_mh"] @ h), c)


def mogrifier(own: Numbers, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, ...]:
    q1, r2, q3, r4, q5 = (own.own[f"factors.{k}"] for k in range(5))
    x1 = 2 * sigma(q1 @ h) * x
    h2 = 2 * sigma(r2 @ x1) * h
    x3 = 2 * sigma(q3 @ h2) * x1
    h4 = 2 * sigma(r4 @ x3) * h2
    return lstm(own, 2 * sigma(q5 @ h4) * x3, h4, c)


def slstm(
    own: Numbers, x: np.ndarray, h: np.ndarray, c: np.ndarray, n: np.ndarray, m: np.ndarray
) -> tuple[np.ndarray, ...]:
    i, f, g, o = own.gates(4, x, h)
    c, n = c * np.exp(m), n * np.exp(m)  # the paper's equations 8 to 14 know no m
    c = sigma(f) * c + np.exp(i) * np.tanh(g)
    n = sigma(f) * n + np.exp(i)
    m = np.maximum(np.log(sigma(f)) + m, i)
    return sigma(o) * c / n, c / np.exp(m), n / np.exp(m), m


def split_heads(own: Numbers, x: np.ndarray, heads: int, size: int) -> list[np.ndarray]:
    """q, k, v, o, write and keep of an input; q and k by head."""
    (a,) = own.gates(1, x, None)
    places = np.cumsum([heads * size, heads * size, H, H, heads])
    q, k, v, o, write, keep = np.split(a, places)
    return [q.reshape(heads, size), k.reshape(heads, size), v, o, write, keep]


def mlstm(
    own: Numbers, x: np.ndarray, h: np.ndarray, memory: np.ndarray, n: np.ndarray, m: np.ndarray
) -> tuple[np.ndarray, ...]:
    heads, units, size = memory.shape
    q, k, v, o, write, keep = split_heads(own, x, heads, size)
    memory, n, h, after = memory.copy(), n.copy(), h.copy(), m.copy()
    for j in range(H):
        head, row = divmod(j, units)
        i, f, key = math.exp(write[head]), sigma(keep[head]), k[head] / math.sqrt(size)
        after[head] = max(math.log(f) + m[head], write[head])
        whole = f * memory[head, row] * math.exp(m[head]) + i * v[j] * key
        total = f * n[head] * math.exp(m[head]) + i * key
        h[j] = sigma(o[j]) * (whole @ q[head]) / max(abs(total @ q[head]), 1)
        memory[head, row] = whole / math.exp(after[head])
    for head in range(heads):
        i, f, key = math.exp(write[head]), sigma(keep[head]), k[head] / math.sqrt(size)
        after[head] = max(math.log(f) + m[head], write[head])
        n[head] = (f * n[head] * math.exp(m[head]) + i * key) / math.exp(after[head])
    return h, memory, n, after


def deltanet(
    own: Numbers, x: np.ndarray, h: np.ndarray, memory: np.ndarray
) -> tuple[np.ndarray, ...]:
    heads, units, size = memory.shape
    q, k, v, o, write, keep = split_heads(own, x, heads, size)
    memory, h = memory.copy(), h.copy()
    values = np.zeros(heads * units)
    values[:H] = v * sigma(v)
    for head in range(heads):
        query, key = (part[head] * sigma(part[head]) for part in (q, k))
        query, key = query / np.linalg.norm(query), key / np.linalg.norm(key)
        alpha, beta = sigma(keep[head]), sigma(write[head])
        value = values[head * units : (head + 1) * units]
        memory[head] = alpha * memory[head] @ (np.eye(size) - beta * np.outer(key, key))
        memory[head] += beta * np.outer(value, key)
        found = memory[head] @ query
        for row in range(units):
            if head * units + row < H:
                h[head * units + row] = sigma(o[head * units + row]) * found[row]
    return h, memory


@pytest.mark.parametrize("bias", BIAS)
@pytest.mark.parametrize("name", NEW)
def test_step_is_the_papers_in_plain_numbers(name: str, bias: bool) -> None:
    cell = made(name, {}, bias)
    x, state = random_inputs(cell)
    if name in ("mlstm", "deltanet"):  # the padded units of a state are always zero
        state = (state[0], unpadded(state[1]), *state[2:])
    own = Numbers(cell)
    for _ in range(3):
        found = cell.step(x[0], state)
        for lane in range(B):
            parts = [part[lane].detach().numpy() for part in state]
            expected = globals()[name](own, x[0, lane].detach().numpy(), *parts)
            for part, wanted in zip(found, expected, strict=True):
                torch.testing.assert_close(part[lane], torch.from_numpy(wanted), **TOLERANCE)
        state = found


def unpadded(memory: torch.Tensor) -> torch.Tensor:
    flat = memory.detach().flatten(1, 2).clone()
    flat[:, H:] = 0
    return flat.view_as(memory)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_resets_begin_anew_within_a_window(name: str, options: dict[str, str]) -> None:
    cell = made(name, options, True)
    x, state = random_inputs(cell)
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[0, 1] = resets[2, 0] = resets[2, 1] = resets[4, 2] = True
    fast, after = cell(x, state, resets)
    slow, expected = cell.unroll(x, state, resets)
    torch.testing.assert_close(fast, slow, **TOLERANCE)
    for part, wanted in zip(after, expected, strict=True):
        torch.testing.assert_close(part, wanted, **TOLERANCE)
    alone, _ = cell(x[2:4, :1], cell.initial_state(1))
    torch.testing.assert_close(fast[2:4, :1], alone, **TOLERANCE)


@pytest.mark.parametrize("name", ["mlstm", "deltanet"])
def test_long_windows_are_computed_in_chunks(name: str) -> None:
    cell = made(name, {}, True)
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(150, 2, I, generator=generator).double()
    state = cell.initial_state(2)
    fast, _ = cell(x, state)
    slow, _ = cell.unroll(x, state)
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["slstm", "mlstm"])
def test_extreme_gates_neither_overflow_nor_divide_by_zero(name: str) -> None:
    """In float32, forward and backward, with inputs of a thousand times the usual size."""
    cell = made(name, {}, True).float()
    x = 1000 * torch.randn(20, B, I, generator=torch.Generator().manual_seed(5))
    output, after = cell(x, cell.initial_state(B))
    output.square().sum().backward()
    assert all(part.isfinite().all() for part in (output, *after))
    assert all(
        weight.grad.isfinite().all() for weight in cell.parameters() if weight.grad is not None
    )


@pytest.mark.parametrize("name", NEW)
def test_a_held_unit_has_its_value_and_no_other_unit_changes(name: str) -> None:
    cell = made(name, {}, True)
    x, state = random_inputs(cell)
    after = cell.step(x[0], state)
    held = cell.hold(x[0], state, after, 2, 0.5)
    others = [0, 1, 3, 4, 5]
    torch.testing.assert_close(held[0][:, others], after[0][:, others], rtol=0, atol=0)
    gates: State = dict(zip(cell.letters, cell.gate_values(x[0], state), strict=True))  # type: ignore[assignment]
    shown = {"slstm": 0.5, "mogrifier": math.tanh(0.5), "multiplicative": math.tanh(0.5)}
    expected = shown[name] * gates["o"][:, 2] if name in shown else torch.full((B,), 0.5).double()  # type: ignore[call-overload]
    torch.testing.assert_close(held[0][:, 2], expected, **TOLERANCE)


@pytest.mark.parametrize("name", ["mogrifier", "lstm"])
def test_memory_follows_the_gates_that_are_shown(name: str) -> None:
    """Require c' = f c + i g and h' = o tanh(c') of the values that pages draw."""
    cell = made(name, {}, True)
    x, (h, c) = random_inputs(cell)
    gates = dict(zip(cell.letters, cell.gate_values(x[0], (h, c)), strict=True))
    after = cell.step(x[0], (h, c))
    memory = gates["f"] * c + gates["i"] * gates["g"]
    torch.testing.assert_close(after, (gates["o"] * memory.tanh(), memory), **TOLERANCE)
    held = cell.hold(x[0], (h, c), after, 3, -0.25)
    torch.testing.assert_close(held[0][:, 3], gates["o"][:, 3] * math.tanh(-0.25), **TOLERANCE)
    assert (held[1][:, 3] == -0.25).all()


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("scheme", ["orthogonal", "xavier", "kaiming", "uniform"])
def test_initialization_fills_every_parameter(name: str, scheme: str) -> None:
    cell = made(name, {}, True, scheme)
    for parameter in cell.parameters():
        parameter.data.fill_(math.nan)
    cell.reset_parameters(scheme, torch.Generator().manual_seed(0), 1.0)
    assert all(parameter.isfinite().all() for parameter in cell.parameters())


@pytest.mark.parametrize("name", NEW)
def test_weights_of_the_input_have_the_deviation_asked_for(name: str) -> None:
    cell = CELLS[name].load()(50, 60)
    cell.reset_parameters("orthogonal", torch.Generator().manual_seed(0), 3.0)
    names = [one for one, _ in cell.named_parameters() if one.endswith(("weight_ih", "weight_mx"))]
    assert names
    for one in names:
        wanted = 1.5 if isinstance(cell, MatrixCell) or one == "weight_mx" else 3.0
        assert cell.get_parameter(one).std().item() == pytest.approx(wanted, rel=0.065)


def test_mogrifiers_rounds_may_have_a_low_rank() -> None:
    from charlm.cells.mogrifier import Mogrifier

    cell = Mogrifier(I, H, rounds=3, rank=2)
    assert [tuple(factor.shape) for factor in cell.factors] == [
        (I, 2), (2, H), (H, 2), (2, I), (I, 2), (2, H)
    ]  # fmt: skip
    cell.reset_parameters("orthogonal", torch.Generator().manual_seed(0))
    x, h = torch.randn(B, I), torch.randn(B, H)
    q1, q2, r1, r2, p1, p2 = (factor.detach() for factor in cell.factors)
    x1 = 2 * torch.sigmoid(h @ (q1 @ q2).T) * x
    h2 = 2 * torch.sigmoid(x1 @ (r1 @ r2).T) * h
    x3 = 2 * torch.sigmoid(h2 @ (p1 @ p2).T) * x1
    for found, wanted in zip(cell.modulated(x, h), (x3, h2), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
