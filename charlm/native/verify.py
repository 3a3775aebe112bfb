"""Verification of a new build of the kernels against the equations, before it is used."""

import copy
import ctypes
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.cells import CELLS
from charlm.cells.base import ProjectedCell, State
from charlm.config.cell_spec import variants
from charlm.native.adapting import NativeAdapter
from charlm.native.interface import UNBOUNDED, Kernels
from charlm.native.model import NOTHING, NativeModel, Parts, SoftTargets
from charlm.native.steps import Hyperparameters, Learning, NativeSteps, StepNumbers, StepShape
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
    """Test every cell in every type, training steps, sampling and adapting; return a description of
    the first error, or ""."""
    kernels = Kernels(library)
    for name in kernels.types:
        for error, what in _errors(kernels, name):
            if not error <= TOLERANCES[name]:
                return f"the kernels compute {what} wrongly in {name} here (off by {error:.1e})"
    return ""


def _errors(kernels: Kernels, name: str) -> Iterator[tuple[float, str]]:
    for cell_name, options in variants():
        if not CELLS[cell_name].gates:
            continue
        cell = CELLS[cell_name].load()(INPUTS, 5 * kernels.width + 3, **options)
        if not (isinstance(cell, ProjectedCell) and kernels.supports([cell])):
            continue
        if cell.variant in UNBOUNDED and name == "int8":
            continue
        # The gradient of a unit near zero is 0 or 1 by its sign, which rounding may change.
        is_steep = cell.variant in ("rnn_relu", "indrnn") and name != "float32"
        if name != "int8" and not is_steep:
            yield deviation(kernels, cell, getattr(torch, name)), cell.variant
            yield step_deviation(kernels, cell, getattr(torch, name)), f"a step of {cell.variant}"
        yield writing_deviation(kernels, cell, name), f"writing with {cell.variant}"
        if name == "float32":
            yield adapting_deviation(kernels, cell), f"adapting with {cell.variant}"


@dataclass(frozen=True)
class Problem:
    """A test problem. Shapes: table [V, I], symbols and targets [T, B], state [B, H] each, soft
    targets [T, B, V]."""

    table: Tensor
    symbols: Tensor
    targets: Tensor
    state: State
    soft: SoftTargets


def problem(cell: ProjectedCell, size: int = V) -> Problem:
    """Make a test problem of `size` symbols, the same at every call; set the cell's parameters."""
    draw = torch.Generator().manual_seed(0)
    cell.reset_parameters("orthogonal", draw)
    for parameter in cell.parameters():  # no zeros: every parameter must matter
        parameter.data += torch.randn(parameter.shape, generator=draw) / 20
    return Problem(
        torch.randn(size, cell.input_size, generator=draw),
        torch.randint(size, (T, B), generator=draw),
        torch.randint(size, (T, B), generator=draw),
        tuple(torch.randn(B, cell.hidden_size, generator=draw) / 2 for _ in cell.state_parts),
        SoftTargets(torch.randn(T, B, size, generator=draw).softmax(-1), 0.3),
    )


def stacked(cell: ProjectedCell, case: Problem, end: int | None = None) -> Parts:
    """Return a model of two layers of a cell, with a head of random weights."""
    options = {name: getattr(cell, name) for name in cell.options}
    upper = type(cell)(cell.hidden_size, cell.hidden_size, bias=cell.bias_ih is not None, **options)
    problem(upper)
    embedding = nn.Embedding(len(case.table), cell.input_size, _weight=case.table.clone())
    return Parts(embedding, [cell, upper], _head(cell.hidden_size, len(case.table), 4), end)


def _head(inputs: int, symbols: int, seed: int) -> nn.Linear:
    head, draw = nn.Linear(inputs, symbols), torch.Generator().manual_seed(seed)
    for parameter in head.parameters():
        parameter.data = torch.randn(parameter.shape, generator=draw) / 4
    return head


def deviation(kernels: Kernels, cell: ProjectedCell, precision: torch.dtype) -> float:
    """Return the largest relative error of log-probabilities, losses, states and gradients against
    the equations in float64: of symbols that are looked up and of more than the window has, with
    and without ends of records."""
    errors = []
    for size, end in ((V, None), (V, END), (9 * kernels.width + 5, None), (261, END)):
        case = problem(cell, size)
        model = stacked(cell, case, end)
        errors.append(worst(_by_kernels(kernels, model, precision, case), exact(model, case)))
    return max(errors)


def step_deviation(kernels: Kernels, cell: ProjectedCell, precision: torch.dtype) -> float:
    """Return the error of moments, weights, averages, loss and norm after a training step."""
    case, head = problem(cell), _head(cell.hidden_size, V, 3)
    model = Parts(nn.Embedding(V, INPUTS, _weight=case.table.clone()), [cell], head, END)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    steps = copy.deepcopy(model)
    weights = dict(zip(map(str, range(len(before))), steps.parameters(), strict=True))
    first, averages = ({k: torch.zeros_like(w) for k, w in weights.items()} for _ in range(2))
    second, loss = {k: torch.ones_like(w) for k, w in weights.items()}, torch.zeros(())
    learning = Learning(weights, first, second, averages, loss)
    constants = Hyperparameters((0.5, 0.5), DECAY, LONGEST)
    shape = StepShape((T - 1, B), precision, thresholds=(0, 0))
    taking = NativeSteps(kernels, steps, learning, constants, shape)
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
def writing_deviation(kernels: Kernels, cell: ProjectedCell, name: str) -> float:
    """Return the error of the logits in sampling with two layers of a cell and a head."""
    case = problem(cell)
    model = stacked(cell, case, END)
    (_, upper), head = model.cells, model.head
    cells = [
        SampledCell.of(one.variant, {key: w.numpy() for key, w in one.state_dict().items()})
        for one in model.cells
    ]
    weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
    parts = SampledParts(cells, case.table.numpy(), weight, bias, END)
    sampler = NativeSampler(kernels, name, parts, B)
    rows = [torch.from_numpy(sampler.read(row.numpy())).clone() for row in case.symbols]
    logits = torch.stack(rows)
    states, ends = [cell.initial_state(B), upper.initial_state(B)], case.symbols == END
    outputs, _ = cell.unroll(case.table[case.symbols], states[0], ends)
    return worst([logits], [head(upper.unroll(outputs, states[1], ends)[0]).double()])


def adapting_deviation(kernels: Kernels, cell: ProjectedCell) -> float:
    """Return the error of a text's surprisals under a model that learns from each window."""
    case = problem(cell)
    embedding = nn.Embedding(V, INPUTS, _weight=case.table)
    model = Parts(embedding, [cell], _head(cell.hidden_size, V, 2), END)
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


def exact(model: Parts, case: Problem) -> list[Tensor]:
    """Compute the results of `computed` by the equations in float64."""
    for module in model.modules():
        module.double()
    state = tuple(part.double() for part in case.state)
    results = computed(model, replace(case, state=state), lambda cell: cell.unroll)
    for module in model.modules():
        module.float()
    return results


def computed(model: Parts, case: Problem, unrolled: Callable[[ProjectedCell], Any]) -> list[Tensor]:
    """Compute log-probabilities, losses, the states of all layers, and the gradients of all
    parameters by torch. unrolled: the function that computes a cell over a sequence."""
    assert model.embedding is not None
    resets = None if model.end is None else case.symbols == model.end
    x, parts, soft = model.embedding(case.symbols), [], case.soft
    for cell in model.cells:
        x, after = unrolled(cell)(x, case.state, resets)
        parts += after
    logs = model.head(x).to(torch.promote_types(x.dtype, torch.float32)).log_softmax(-1)
    losses = -logs.gather(-1, case.targets.unsqueeze(-1)).squeeze(-1)
    crossed = -(soft.probabilities * logs).sum(-1).mean()
    mean = (1 - soft.weight) * losses.mean() + soft.weight * crossed
    gradients = torch.autograd.grad(mean, model.parameters())
    return [part.detach() for part in (logs, losses, *parts, *gradients)]


def worst(results: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """Return the largest relative error among tensors; infinite if a value is not a number."""
    errors = [
        float((part.detach().double() - exact).norm() / exact.norm())
        for part, exact in zip(results, right, strict=True)
    ]
    return max(errors) if not any(map(math.isnan, errors)) else math.inf


def _by_kernels(
    kernels: Kernels, model: Parts, precision: torch.dtype, case: Problem
) -> list[Tensor]:
    """Compute the results of `computed` by the kernels."""
    native, states = NativeModel(kernels, model), [case.state for _ in model.cells]
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        logs, _ = native.log_probabilities(case.symbols, states)
        losses, after = native.loss_and_gradients(
            case.symbols, case.targets, states, NOTHING, case.soft
        )
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return [logs, losses, *(part for state in after for part in state), *gradients]
