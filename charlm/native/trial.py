"""A fresh build of the kernels against the equations, before it is believed."""

import ctypes
from typing import Any

import torch
from torch import Tensor

from charlm.cells import CELLS, Cell
from charlm.native import layers
from charlm.native.build import UnavailableError
from charlm.native.interface import Kernels

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
            worst = deviation(kernels, cell, precision)
            if not worst <= tolerance:
                raise UnavailableError(
                    f"the kernels compute {cell.kernel} wrongly in {precision} here "
                    f"(off by {worst:.1e})"
                )


def deviation(kernels: Kernels, cell: Cell, precision: torch.dtype) -> float:
    """The largest relative error of outputs, states and gradients against the equations in
    float64."""
    draw = torch.Generator().manual_seed(0)
    cell.reset_parameters("orthogonal", draw)
    table = torch.randn(V, cell.input_size, generator=draw)
    symbols = torch.randint(V, (T, B), generator=draw)
    state = tuple(torch.randn(B, cell.hidden_size, generator=draw) / 2 for _ in cell.state_parts)
    weights = [torch.randn(T, B, cell.hidden_size, generator=draw)]
    weights += [torch.randn(B, cell.hidden_size, generator=draw) for _ in state]

    def results(exact: bool, looked_up: bool) -> list[Tensor]:
        dtype = torch.float64 if exact else torch.float32
        cell.to(dtype)
        given = [part.to(dtype).requires_grad_() for part in (table, *state)]
        vectors, opening = given[0], tuple(given[1:])
        if exact:
            output, after = cell.run_steps(vectors[symbols], opening)
        else:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
                shown = vectors if looked_up else vectors[symbols]
                rows = symbols if looked_up else None
                output, after = layers.run(kernels, cell, shown, rows, opening)
        parts = (output, *after)
        loss = sum(((w * p).sum() for w, p in zip(weights, parts, strict=True)), torch.zeros(()))
        gradients = torch.autograd.grad(loss, [*given, *cell.parameters()])
        return [part.detach().double() for part in (*parts, *gradients)]

    right = results(exact=True, looked_up=False)
    worst = 0.0
    for looked_up in (True, False):
        for found, wanted in zip(results(False, looked_up), right, strict=True):
            error = float((found - wanted).norm() / wanted.norm())
            worst = max(worst, error) if error == error else float("inf")
    return worst
