"""The minimal gated recurrent unit."""

from typing import ClassVar

import torch
from torch import Tensor

from charlm.cells.linear import LinearCell


class MinGRU(LinearCell):
    """One layer that blends its state with a candidate; neither sees the state.

        z_t = sigma(W_z x_t + b_z)                     update gate: share of the candidate
        n_t = W_n x_t + b_n                            candidate
        h_t = (1 - z_t) * h_{t-1} + z_t * n_t

    Source: Feng et al. 2024, "Were RNNs All We Needed?" (arXiv 2410.01201), section 3.1.
    """

    gates: ClassVar = ("update", "candidate")
    letters: ClassVar = ("z", "n")

    def activations(self, projected: Tensor) -> tuple[Tensor, ...]:
        a_z, n = projected.chunk(2, -1)
        return torch.sigmoid(a_z), n

    def coefficients(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        z, n = self.activations(projected)
        return 1 - z, z * n
