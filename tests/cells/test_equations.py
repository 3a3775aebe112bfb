"""The equations are the specification: torch agrees with them, and the fast paths agree with both.

In float64, so that agreement to 1e-10 leaves no room for a wrong term; all sizes differ, so that a
swapped axis fails.
"""

import pytest
import torch
from torch import Tensor, nn

from charlm.cells import CELLS
from charlm.cells.base import Cell, State
from charlm.cells.fused import flatten_weights

T, B, I, H = 5, 3, 4, 6  # noqa: E741 (the docstrings' own symbols)
TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}

GATED = [
    ("rnn", {"nonlinearity": "tanh"}),
    ("rnn", {"nonlinearity": "relu"}),
    ("lstm", {}),
    ("gru", {"reset_gate": "after"}),
    ("gru", {"reset_gate": "before"}),
]
VARIANTS = [*GATED, *((name, {}) for name in CELLS if name not in ("rnn", "lstm", "gru"))]
BIAS = [True, False]


@pytest.mark.parametrize("name", CELLS)
def test_the_options_known_without_torch_are_those_of_the_constructor(name: str) -> None:
    assert CELLS[name].options == CELLS[name].load().options


def made(name: str, options: dict[str, str], bias: bool, scheme: str = "orthogonal") -> Cell:
    cell = CELLS[name].load()(I, H, bias=bias, **options).double()  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    cell.reset_parameters(scheme, generator)
    for parameter in cell.parameters():  # no zeros: every parameter must matter
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator).double()
    return cell


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_bias_false_leaves_out_the_biases_and_nothing_else(
    name: str, options: dict[str, str]
) -> None:
    whole, without = ({n for n, _ in made(name, options, bias).named_parameters()} for bias in BIAS)
    biases = {one for one in whole if "bias" in one}
    assert biases
    assert without == whole - biases


def random_inputs(cell: Cell) -> tuple[Tensor, State]:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(T, B, I, generator=generator).double().requires_grad_()
    state = tuple(
        torch.randn(part.shape, generator=generator).double().requires_grad_()
        for part in cell.initial_state(B)
    )
    return x, state


def gradients(cell: Cell, output: Tensor, final: State, x: Tensor, state: State) -> list[Tensor]:
    """Return the gradients of a scalar in which all outputs and final states count differently."""
    generator = torch.Generator().manual_seed(3)
    parts = [output, *final]
    weights = [torch.randn(part.shape, generator=generator).double() for part in parts]
    total = sum((p * w).sum() for p, w in zip(parts, weights, strict=True))
    inputs = [*cell.parameters(), x, *state]
    return list(torch.autograd.grad(total, inputs, materialize_grads=True))  # type: ignore[arg-type]


def assert_close(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


@pytest.mark.parametrize("bias", BIAS)
@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_fast_path_equals_the_equations(name: str, options: dict[str, str], bias: bool) -> None:
    cell = made(name, options, bias)
    x, state = random_inputs(cell)
    fast, fast_final = cell(x, state)
    slow, slow_final = cell.unroll(x, state)
    assert fast.shape == (T, B, H)
    assert_close([fast, *fast_final], [slow, *slow_final])
    assert_close(
        gradients(cell, fast, fast_final, x, state), gradients(cell, slow, slow_final, x, state)
    )


@pytest.mark.parametrize("bias", BIAS)
@pytest.mark.parametrize(
    ("name", "options", "module"),
    [
        ("rnn", {"nonlinearity": "tanh"}, nn.RNN(I, H, nonlinearity="tanh")),
        ("rnn", {"nonlinearity": "relu"}, nn.RNN(I, H, nonlinearity="relu")),
        ("lstm", {}, nn.LSTM(I, H)),
        ("gru", {"reset_gate": "after"}, nn.GRU(I, H)),
    ],
)
def test_equations_equal_torch_with_the_same_parameters(
    name: str, options: dict[str, str], module: nn.RNNBase, bias: bool
) -> None:
    cell = made(name, options, bias)
    names = dict(cell.named_parameters())
    given = {
        f"{key}_l0": names.get(key, torch.zeros(0))
        for key in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    if not bias:
        zeros = torch.zeros(len(cell.gates) * H).double()
        given |= {"bias_ih_l0": zeros, "bias_hh_l0": zeros}
    module = module.double()
    module.load_state_dict(given)
    x, state = random_inputs(cell)
    output, final = cell.unroll(x, state)
    hx = [part.unsqueeze(0) for part in state]
    expected, last = module(x, tuple(hx) if name == "lstm" else hx[0])
    last = last if isinstance(last, tuple) else (last,)
    assert_close([output, *final], [expected, *(part[0] for part in last)])


def test_gru_before_is_the_lecture_in_plain_numbers() -> None:
    cell = made("gru", {"reset_gate": "before"}, bias=False)
    x, (h,) = random_inputs(cell)
    w_r, w_z, w = (
        torch.cat([hh, ih], dim=1)  # the lecture multiplies W with [h, x]
        for hh, ih in zip(cell.weight_hh.chunk(3), cell.weight_ih.chunk(3), strict=True)
    )
    hx = torch.cat([h, x[0]], dim=1)
    r, z = torch.sigmoid(hx @ w_r.T), torch.sigmoid(hx @ w_z.T)
    n = torch.tanh(torch.cat([r * h, x[0]], dim=1) @ w.T)
    (found,) = cell.step(x[0], (h,))
    torch.testing.assert_close(found, (1 - z) * h + z * n, **TOLERANCE)


def test_lstm_is_the_lecture_in_plain_numbers() -> None:
    cell = made("lstm", {}, bias=True)
    x, (h, c) = random_inputs(cell)
    hx = torch.cat([h, x[0]], dim=1)
    assert cell.bias_ih is not None
    assert cell.bias_hh is not None
    w = torch.cat([cell.weight_hh, cell.weight_ih], dim=1).chunk(4)
    b = (cell.bias_ih + cell.bias_hh).chunk(4)
    i, f, g, o = (hx @ w_k.T + b_k for w_k, b_k in zip(w, b, strict=True))
    c_t = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    h_t = torch.sigmoid(o) * torch.tanh(c_t)
    assert_close(list(cell.step(x[0], (h, c))), [h_t, c_t])


@pytest.mark.parametrize("bias", BIAS)
@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_whole_sequence_equals_chunks_with_the_state_carried(
    name: str, options: dict[str, str], bias: bool
) -> None:
    cell = made(name, options, bias)
    x, state = random_inputs(cell)
    whole, final = cell(x, state)
    outputs = []
    for chunk in (x[:2], x[2:3], x[3:]):
        output, state = cell(chunk, state)
        outputs.append(output)
    assert_close([torch.cat(outputs), *state], [whole, *final])


@pytest.mark.parametrize("scheme", ["orthogonal", "xavier", "kaiming", "uniform"])
@pytest.mark.parametrize(("name", "options"), GATED)
def test_initialization_fills_every_block_within_its_bounds(
    name: str, options: dict[str, str], scheme: str
) -> None:
    cell = CELLS[name].load()(I, H, **options)  # type: ignore[arg-type]
    for parameter in cell.parameters():
        nn.init.constant_(parameter, float("nan"))
    cell.reset_parameters(scheme, torch.Generator().manual_seed(0))
    bound = {
        "orthogonal": 1.0,
        "xavier": (6 / (H + I)) ** 0.5,
        "kaiming": (6 / I) ** 0.5,
        "uniform": H**-0.5,
    }[scheme]
    for parameter in (cell.weight_ih, cell.weight_hh):
        assert parameter.isfinite().all()
        assert 0 < parameter.abs().max() <= max(bound, (6 / (H + I)) ** 0.5)
    if scheme == "orthogonal":
        for block in cell.weight_hh.split(H):
            torch.testing.assert_close(block @ block.T, torch.eye(H), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scheme", ["orthogonal", "uniform"])
@pytest.mark.parametrize(("name", "options"), GATED)
def test_input_weights_have_the_deviation_asked_for_and_nothing_else_changes(
    name: str, options: dict[str, str], scheme: str
) -> None:
    cells = [CELLS[name].load()(50, 60, **options) for _ in range(2)]  # type: ignore[arg-type]
    plain, scaled = cells
    plain.reset_parameters(scheme, torch.Generator().manual_seed(0))
    scaled.reset_parameters(scheme, torch.Generator().manual_seed(0), 3.0)
    for own, other in zip(plain.weights()[1:], scaled.weights()[1:], strict=True):
        assert torch.equal(own, other)
    # Of at least 3,000 normal draws: the deviation's own is 1.3 %.
    assert scaled.weight_ih.std().item() == pytest.approx(3.0, rel=0.065)


def test_lstm_opens_its_forget_gate_and_no_other() -> None:
    cell = CELLS["lstm"].load()(I, H)
    cell.reset_parameters("orthogonal", torch.Generator().manual_seed(0))
    assert cell.bias_ih is not None
    assert cell.bias_hh is not None
    total = (cell.bias_ih + cell.bias_hh).detach()
    assert total.split(H)[1].tolist() == [1.0] * H
    assert total.sum() == H


@pytest.mark.parametrize("bias", BIAS)
def test_weights_in_one_piece_are_the_weights(bias: bool) -> None:
    cell = made("gru", {}, bias)
    parts = flatten_weights(cell.weights(), torch.float32)
    begin, ends = parts[0].data_ptr(), []
    for part, weight in zip(parts, cell.weights(), strict=True):
        assert torch.equal(part, weight.float())
        assert part.is_contiguous()
        assert part.data_ptr() == (ends[-1] if ends else begin)
        ends.append(part.data_ptr() + 4 * part.numel())
    room = parts[0].untyped_storage().nbytes() // 4
    assert room == 3 * H * (I + H + 2)  # cuDNN's, biases or not
    gradients = torch.autograd.grad(sum((p * p).sum() for p in parts), cell.weights())
    for gradient, weight in zip(gradients, cell.weights(), strict=True):
        torch.testing.assert_close(gradient, 2 * weight, rtol=1e-6, atol=1e-6)


def test_the_lectures_gru_has_no_second_derivatives_rather_than_wrong_ones() -> None:
    cell = made("gru", {"reset_gate": "before"}, True)
    x, state = random_inputs(cell)
    output, _ = cell(x, state)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(output.sum(), x, create_graph=True)
