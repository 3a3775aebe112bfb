"""The gated recurrent unit, in both of its forms."""

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.cells.base import GatedCell, State
from charlm.cells.fused import ResetBefore, run_fused


class GRU(GatedCell):
    """One layer with two gates and no state other than the hidden one.

    reset_gate="before": the lecture's form. r acts on the state before the matrix product, and z
    weighs the candidate:

        r_t = sigma(W_r [h_{t-1}, x_t] + b_r)
        z_t = sigma(W_z [h_{t-1}, x_t] + b_z)
        n_t = tanh(W [r_t * h_{t-1}, x_t] + b)
        h_t = (1 - z_t) * h_{t-1} + z_t * n_t

    reset_gate="after": the form of torch's nn.GRU and of cuDNN, for which fused kernels exist. It
    differs twice: r acts on the product, and z weighs the old state:

        n_t = tanh(W_in x_t + b_in + r_t * (W_hn h_{t-1} + b_hn))
        h_t = z_t * h_{t-1} + (1 - z_t) * n_t

    With bias=False both are the lecture's bias-free equations.

    Source: the lecture's equations of the GRU; Cho et al. 2014 ("before"); torch.nn.GRU ("after").
    """

    gates: ClassVar = ("reset", "update", "candidate")
    letters: ClassVar = ("r", "z", "n")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        reset_gate: Literal["after", "before"] = "after",
    ) -> None:
        super().__init__(input_size, hidden_size, bias=bias)
        self.reset_gate = reset_gate

    def merged_biases(self) -> tuple[Tensor, Tensor | None]:
        """Merge the biases; in the form "after", r multiplies the candidate's bias_hh."""
        if self.reset_gate == "before":
            return super().merged_biases()
        assert self.bias_ih is not None
        assert self.bias_hh is not None
        gates = 2 * self.hidden_size
        merged = self.bias_ih.clone()
        merged[:gates] += self.bias_hh[:gates]
        return merged, self.bias_hh[gates:]

    def activations(self, projected: Tensor, state: State) -> tuple[Tensor, ...]:
        (h,) = state
        x_r, x_z, x_n = projected.chunk(3, -1)
        if self.reset_gate == "before":
            gates = 2 * self.hidden_size  # the rows of r and z
            w_gates, w_candidate = self.weight_hh[:gates], self.weight_hh[gates:]
            bias = self.bias_hh
            b_gates, b_candidate = (None, None) if bias is None else (bias[:gates], bias[gates:])
            h_r, h_z = F.linear(h, w_gates, b_gates).chunk(2, -1)
            r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
            return r, z, torch.tanh(x_n + F.linear(r * h, w_candidate, b_candidate))
        h_r, h_z, h_n = F.linear(h, self.weight_hh, self.bias_hh).chunk(3, -1)
        r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
        return r, z, torch.tanh(x_n + r * h_n)

    def advance(self, projected: Tensor, state: State) -> State:
        (h,) = state
        _, z, n = self.activations(projected, state)
        if self.reset_gate == "before":
            return ((1 - z) * h + z * n,)
        return (z * h + (1 - z) * n,)

    def forward(
        self, x: Tensor, state: State, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        if resets is not None:
            return self.unroll(x, state, resets)
        if self.reset_gate == "after":
            return run_fused(self, torch.gru, x, state)
        bias = None if self.bias_ih is None else self.merged_biases()[0]
        output: Tensor = ResetBefore.apply(  # type: ignore[no-untyped-call]
            F.linear(x, self.weight_ih, bias), state[0], self.weight_hh
        )
        return output, (output[-1],)
