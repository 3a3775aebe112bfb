"""Verification of a new build of the kernels against the equations, before it is used."""

import copy
import ctypes
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.cells import CELLS
from charlm.cells.base import GatedCell, State
from charlm.config.cell_spec import variants
from charlm.native.adapting import NativeAdapter, Parts
from charlm.native.head import HeadLoss
from charlm.native.interface import Kernels
from charlm.native.steps import Hyperparameters, Learning, NativeSteps, StepNumbers, StepShape
from charlm.native.window import LayerInput, LayerPass
from charlm.native.writing import NativeSampler, SampledCell, SampledParts

TOLERANCES = {"float32": 1e-5, "bfloat16": 0.05, "int8": 0.1}
"""Relative tolerances of outputs and gradients. bfloat16 has 8 bits: errors of 0.2 to 0.6 % were
seen here, of up to 2 % in torch's autocast."""
T, B, V, INPUTS = 5, 11, 9, 7
STEP, PULL, LONGEST = 0.1, 0.05, 0.5
"""Step, pull and gradient norm limit of an adapting model; some of its gradients exceed it."""
DECAY = 0.1
"""Weight decay of a training step."""
END = 4
"""The symbol with which a record ends, before which the states are reset."""


def find_error(library: ctypes.CDLL) -> str:
    """Test every cell and the head in every type, sampling and adapting; return a description of
    the first error, or ""."""
    kernels = Kernels(library)
    for name in kernels.types:
        for error, what in _errors(kernels, name):
            if not error <= TOLERANCES[name]:
                return f"the kernels compute {what} wrongly in {name} here (off by {error:.1e})"
    return ""


def _errors(kernels: Kernels, name: str) -> Iterator[tuple[float, str]]:
    for cell_name, options in variants():
        cell = CELLS[cell_name].load()(INPUTS, 5 * kernels.width + 3, **options)
        if not (isinstance(cell, GatedCell) and kernels.supports([cell])):
            continue
        if cell.variant == "rnn_relu" and name != "float32":
            continue  # a unit near zero may have the other sign: nothing to compare
        if name != "int8":
            yield deviation(kernels, cell, getattr(torch, name)), cell.variant
            yield step_deviation(kernels, cell, getattr(torch, name)), f"a step of {cell.variant}"
        yield writing_deviation(kernels, cell, name), f"writing with {cell.variant}"
        if name == "float32":
            yield adapting_deviation(kernels, cell), f"adapting with {cell.variant}"
    if name != "int8":
        for symbols in (9 * kernels.width + 5, 261):
            yield head_deviation(kernels, getattr(torch, name), symbols), "the loss"


@dataclass(frozen=True)
class Problem:
    """A test problem. Shapes: table [V, I], symbols [T, B], state [B, H] each, weights of the
    outputs [T, B, H]."""

    table: Tensor
    symbols: Tensor
    state: State
    weights: Tensor


def problem(cell: GatedCell) -> Problem:
    """Make a test problem, the same at every call; set the cell's parameters."""
    draw = torch.Generator().manual_seed(0)
    cell.reset_parameters("orthogonal", draw)
    for parameter in cell.parameters():  # no zeros: every parameter must matter
        parameter.data += torch.randn(parameter.shape, generator=draw) / 20
    sizes = (B, cell.hidden_size)
    return Problem(
        torch.randn(V, cell.input_size, generator=draw),
        torch.randint(V, (T, B), generator=draw),
        tuple(torch.randn(sizes, generator=draw) / 2 for _ in cell.state_parts),
        torch.randn(T, *sizes, generator=draw),
    )


def deviation(kernels: Kernels, cell: GatedCell, precision: torch.dtype) -> float:
    """Return the largest relative error of outputs, states and gradients against the equations in
    float64."""
    case = problem(cell)
    ends = case.symbols == END
    return max(
        worst(
            _by_kernels(kernels, cell, precision, case, looked_up, resets),
            exact(cell, case, resets),
        )
        for looked_up, resets in ((True, None), (False, ends), (True, ends))
    )


def head_deviation(kernels: Kernels, precision: torch.dtype, symbols: int) -> float:
    """Return the error of a head's losses and gradients, for a vocabulary of `symbols`."""
    draw = torch.Generator().manual_seed(0)
    head = nn.Linear(2 * kernels.width, symbols)
    for parameter in head.parameters():
        parameter.data = torch.randn(parameter.shape, generator=draw) / 4
    x = torch.randn(T, B, head.in_features, generator=draw).to(precision)
    targets = torch.randint(symbols, (T, B), generator=draw)
    with torch.no_grad():
        loss = HeadLoss(kernels, head, x, targets, training=True)
        d_x = loss.backward()
    results = [loss.losses, d_x, *(p.grad for p in head.parameters() if p.grad is not None)]
    exact_x, exact_head = x.double().requires_grad_(), copy.deepcopy(head).double()
    logits = exact_head(exact_x).flatten(0, 1)
    losses = F.cross_entropy(logits, targets.flatten(), reduction="none").view(T, B)
    right = torch.autograd.grad(losses.mean(), [exact_x, *exact_head.parameters()])
    return worst(results, [losses.detach(), *right])


def step_deviation(kernels: Kernels, cell: GatedCell, precision: torch.dtype) -> float:
    """Return the error of moments, weights, averages, loss and norm after a training step."""
    case, draw = problem(cell), torch.Generator().manual_seed(3)
    head = nn.Linear(cell.hidden_size, V)
    head.weight.data = torch.randn(head.weight.shape, generator=draw) / 4
    model = Parts(nn.Embedding(V, INPUTS, _weight=case.table.clone()), [cell], head, END)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    steps = copy.deepcopy(model)
    weights = dict(zip(map(str, range(len(before))), steps.parameters(), strict=True))
    first, averages = ({k: torch.zeros_like(w) for k, w in weights.items()} for _ in range(2))
    second, loss = {k: torch.ones_like(w) for k, w in weights.items()}, torch.zeros(())
    learning = Learning(weights, first, second, averages, loss)
    constants = Hyperparameters((0.5, 0.5), DECAY, LONGEST)
    parts = (steps.embedding, steps.cells, steps.head, END)
    shape = StepShape((T - 1, B), precision, threshold=0)
    taking = NativeSteps(kernels, parts, learning, constants, shape)
    anew = torch.arange(B) % 3 == 0
    norm, after = taking.take(
        case.symbols, [case.state], anew.to(torch.uint8), StepNumbers(0, STEP, 0.5, count=1)
    )
    results = [norm, loss, *after[0]]
    for some in (first, weights, averages):
        results += some.values()
    return worst(results, _stepped(model, case, anew, before))


def _stepped(model: Parts, case: Problem, anew: Tensor, before: Sequence[Tensor]) -> list[Tensor]:
    """Compute the results of a training step by the equations in float64."""
    (cell,), embedding = model.cells, model.embedding
    assert embedding is not None
    for module in (embedding, cell, model.head):
        module.double()
    inputs = case.symbols[:-1]
    state = cell.begin_anew(tuple(part.double() for part in case.state), anew)
    outputs, after = cell.unroll(embedding(inputs), state, inputs == END)
    loss = F.cross_entropy(model.head(outputs).flatten(0, 1), case.symbols[1:].flatten())
    gradients = torch.autograd.grad(loss, model.parameters())
    cell.float()
    norm = nn.utils.get_total_norm(gradients)
    scaled = [gradient / max(1.0, float(norm) / LONGEST) for gradient in gradients]
    first, weights = [gradient / 2 for gradient in scaled], []
    for weight, gradient in zip(before, scaled, strict=True):
        kept = weight.double() * (1 - STEP * DECAY * (weight.dim() > 1))
        weights.append(kept - STEP * gradient / ((1 + gradient**2).sqrt() + 1e-8))
    state_after = [part.detach() for part in after]
    averages = [weight / 2 for weight in weights]
    return [norm, loss.detach(), *state_after, *first, *weights, *averages]


@torch.no_grad()
def writing_deviation(kernels: Kernels, cell: GatedCell, name: str) -> float:
    """Return the error of the logits in sampling with two layers of a cell and a head."""
    case, draw = problem(cell), torch.Generator().manual_seed(1)
    options = {name: getattr(cell, name) for name in cell.options}
    upper = type(cell)(cell.hidden_size, cell.hidden_size, **options)
    problem(upper)
    head = nn.Linear(cell.hidden_size, V)
    head.weight.data = torch.randn(head.weight.shape, generator=draw) / 4
    cells = [
        SampledCell.of(one.variant, {key: w.numpy() for key, w in one.state_dict().items()})
        for one in (cell, upper)
    ]
    weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
    parts = SampledParts(cells, case.table.numpy(), weight, bias, END)
    sampler = NativeSampler(kernels, name, parts, B)
    rows = [torch.from_numpy(sampler.read(row.numpy())).clone() for row in case.symbols]
    logits = torch.stack(rows)
    states, ends = [cell.initial_state(B), upper.initial_state(B)], case.symbols == END
    outputs, _ = cell.unroll(case.table[case.symbols], states[0], ends)
    return worst([logits], [head(upper.unroll(outputs, states[1], ends)[0]).double()])


def adapting_deviation(kernels: Kernels, cell: GatedCell) -> float:
    """Return the error of a text's surprisals under a model that learns from each window."""
    case, draw = problem(cell), torch.Generator().manual_seed(2)
    embedding, head = nn.Embedding(V, INPUTS, _weight=case.table), nn.Linear(cell.hidden_size, V)
    for parameter in head.parameters():
        parameter.data = torch.randn(parameter.shape, generator=draw) / 4
    model = Parts(embedding, [cell], head, END)
    steps, pulls = copy.deepcopy(model), copy.deepcopy(model)
    for parts, size in ((steps, STEP), (pulls, PULL)):
        for parameter in parts.parameters():
            parameter.data.fill_(size)
    text = case.symbols.flatten()
    windows = [text[at : at + T + 1] for at in range(0, len(text) - T, T)]
    right = _adapted(copy.deepcopy(model), windows)
    adapter = NativeAdapter(kernels, model, steps, pulls, window=T, longest=LONGEST)
    surprisals = [adapter.adapt(window[:-1], window[1:])[0] for window in windows]
    return worst([torch.cat(surprisals)], [right])


def _adapted(model: Parts, windows: Sequence[Tensor]) -> Tensor:
    """Return a text's surprisals by the equations in float64, learning like `NativeAdapter`."""
    (cell,), embedding = model.cells, model.embedding
    assert embedding is not None
    for module in (embedding, cell, model.head):
        module.double()
    weights = model.parameters()
    trained = [p.detach().clone() for p in weights]
    state, surprisals = cell.initial_state(1), []
    for window in windows:
        inputs = window[:-1, None]
        outputs, state = cell.unroll(embedding(inputs), state, inputs == END)
        losses = F.cross_entropy(model.head(outputs[:, 0]), window[1:], reduction="none")
        gradients = torch.autograd.grad(losses.mean(), weights)
        share = min(1.0, LONGEST / float(nn.utils.get_total_norm(gradients)))
        for weight, first, gradient in zip(weights, trained, gradients, strict=True):
            weight.data -= share * STEP * gradient
            weight.data += PULL * (first - weight.data)
        state = tuple(part.detach() for part in state)
        surprisals.append(losses.detach())
    return torch.cat(surprisals)


def exact(cell: GatedCell, case: Problem, resets: Tensor | None = None) -> list[Tensor]:
    """Compute output, states, gradients of table and parameters, by the equations."""
    cell.double()
    table = case.table.double().requires_grad_()
    state = tuple(p.double() for p in case.state)
    output, after = cell.unroll(table[case.symbols], state, resets)
    loss = (output * case.weights.double()).sum()
    gradients = torch.autograd.grad(loss, [table, *cell.parameters()])
    cell.float()
    return [part.detach() for part in (output, *after, *gradients)]


def worst(results: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """Return the largest relative error among tensors; infinite if a value is not a number."""
    errors = [
        float((part.detach().double() - exact).norm() / exact.norm())
        for part, exact in zip(results, right, strict=True)
    ]
    return max(errors) if not any(map(math.isnan, errors)) else math.inf


@torch.no_grad()
def _by_kernels(
    kernels: Kernels,
    cell: GatedCell,
    precision: torch.dtype,
    case: Problem,
    looked_up: bool,
    resets: Tensor | None,
) -> list[Tensor]:
    """Compute the results of `exact` by the kernels."""
    inputs, symbols = case.table, case.symbols if looked_up else None
    if not looked_up:
        inputs = F.pad(inputs[case.symbols], (0, -cell.input_size % kernels.width)).to(precision)
    marks = None if resets is None else resets.to(torch.uint8)
    layer = LayerPass(
        kernels, cell, precision, LayerInput(inputs, symbols, marks), case.state, training=True
    )
    output = layer.output[..., : cell.hidden_size].clone()
    padding = (0, layer.output.shape[-1] - cell.hidden_size)
    d_inputs = layer.backward(F.pad(case.weights, padding).to(precision))
    if not looked_up:
        d_rows = d_inputs[..., : cell.input_size].flatten(0, 1).float()
        d_inputs = torch.zeros_like(case.table).index_add_(0, case.symbols.flatten(), d_rows)
    gradients = [p.grad for p in cell.parameters() if p.grad is not None]
    return [output, *layer.after, d_inputs, *gradients]
