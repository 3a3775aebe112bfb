"""A fresh build of the kernels against the equations, before it is believed."""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.cells import CELLS, Cell
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
    weights = torch.randn(T, B, cell.hidden_size, generator=draw)

    def wanted() -> list[Tensor]:
        """By the equations, in float64: output, states, gradients."""
        cell.double()
        given = table.double().requires_grad_()
        output, after = cell.run_steps(given[symbols], tuple(part.double() for part in state))
        loss = (output * weights.double()).sum()
        gradients = torch.autograd.grad(loss, [given, *cell.parameters()])
        cell.float()
        return [part.detach() for part in (output, *after, *gradients)]

    def found(looked_up: bool) -> list[Tensor]:
        given = table if looked_up else F.pad(table[symbols], (0, -INPUTS % kernels.width))
        given = given if looked_up else given.to(precision)
        rows = symbols if looked_up else None
        window = Window(kernels, cell, precision, given, rows, state, way_back=True)
        H = cell.hidden_size
        output, after = window.output[..., :H].double(), window.after
        room = (0, window.output.shape[-1] - H)
        d_given = window.back(F.pad(weights, room).to(precision))
        if not looked_up:
            d_rows = d_given[..., :INPUTS].flatten(0, 1).float()
            d_given = torch.zeros_like(table).index_add_(0, symbols.flatten(), d_rows)
        gradients = [p.grad for p in cell.parameters() if p.grad is not None]
        return [part.double() for part in (output, *after, d_given, *gradients)]

    right, worst = wanted(), 0.0
    for looked_up in (True, False):
        for part, exact in zip(found(looked_up), right, strict=True):
            error = float((part - exact).norm() / exact.norm())
            worst = max(worst, error) if error == error else float("inf")
    return worst
