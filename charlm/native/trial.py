"""A fresh build of the kernels against the equations, before it is believed."""

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.cells import CELLS, Cell, State
from charlm.native.build import UnavailableError
from charlm.native.interface import Kernels
from charlm.native.window import Window

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 0.05}
"""Relative, of outputs and gradients. bfloat16 has 8 bits: errors of 0.2 to 0.6 % were seen here,
of up to 2 % in torch's autocast."""
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    *(("rnn", {}), ("lstm", {}), ("gru", {}), ("gru", {"reset_gate": "before"})),
    ("rnn", {"nonlinearity": "relu"}),
)
T, B, V, INPUTS = 5, 11, 9, 7


def accept(library: ctypes.CDLL) -> None:
    """Try every cell in every type. Raises: UnavailableError where one computes wrongly."""
    kernels = Kernels(library)
    for precision, tolerance in TOLERANCES.items():
        if str(precision).removeprefix("torch.") not in kernels.types:
            continue
        for name, options in VARIANTS:
            cell = CELLS[name](INPUTS, 5 * kernels.width + 3, **options)
            if cell.kernel == "rnn_relu" and precision == torch.bfloat16:
                continue  # a unit next to zero may fall on its other side: nothing to compare
            error = deviation(kernels, cell, precision)
            if error > tolerance:
                raise UnavailableError(
                    f"the kernels compute {cell.kernel} wrongly in {precision} here "
                    f"(off by {error:.1e})"
                )


@dataclass(frozen=True)
class Problem:
    """Shapes: table [V, I], symbols [T, B], state [B, H] each, weights of the outputs [T, B, H]."""

    table: Tensor
    symbols: Tensor
    state: State
    weights: Tensor


def problem(cell: Cell) -> Problem:
    """Something to compute, alike every time; gives the cell its parameters."""
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


def deviation(kernels: Kernels, cell: Cell, precision: torch.dtype) -> float:
    """The largest relative error of outputs, states and gradients against the equations in
    float64."""
    given = problem(cell)
    right = exact(cell, given)
    found = (_found(kernels, cell, precision, given, looked_up=way) for way in (True, False))
    return max(worst(parts, right) for parts in found)


def exact(cell: Cell, given: Problem) -> list[Tensor]:
    """Output, states, gradients of the table and of the parameters, by the equations."""
    cell.double()
    table = given.table.double().requires_grad_()
    output, after = cell.run_steps(table[given.symbols], tuple(p.double() for p in given.state))
    loss = (output * given.weights.double()).sum()
    gradients = torch.autograd.grad(loss, [table, *cell.parameters()])
    cell.float()
    return [part.detach() for part in (output, *after, *gradients)]


def worst(found: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """The largest relative error among tensors; infinite where one is not a number."""
    errors = [
        float((part.detach().double() - exact).norm() / exact.norm())
        for part, exact in zip(found, right, strict=True)
    ]
    return max(errors) if not any(map(math.isnan, errors)) else math.inf


def _found(
    kernels: Kernels, cell: Cell, precision: torch.dtype, given: Problem, *, looked_up: bool
) -> list[Tensor]:
    """As `exact`, by the kernels."""
    inputs, symbols = given.table, given.symbols if looked_up else None
    if not looked_up:
        inputs = F.pad(inputs[given.symbols], (0, -cell.input_size % kernels.width)).to(precision)
    window = Window(kernels, cell, precision, inputs, symbols, given.state, way_back=True)
    output = window.output[..., : cell.hidden_size].clone()
    room = (0, window.output.shape[-1] - cell.hidden_size)
    d_given = window.back(F.pad(given.weights, room).to(precision))
    if not looked_up:
        d_rows = d_given[..., : cell.input_size].flatten(0, 1).float()
        d_given = torch.zeros_like(given.table).index_add_(0, given.symbols.flatten(), d_rows)
    gradients = [p.grad for p in cell.parameters() if p.grad is not None]
    return [output, *window.after, d_given, *gradients]
