"""The minimal long short-term memory cell."""

from typing import ClassVar

import torch
from torch import Tensor

from charlm.cells.linear import LinearCell


class MinLSTM(LinearCell):
    """One layer with two gates that add up to 1; no gate sees the state.

        f_t = sigma(W_f x_t + b_f)                     forget gate
        i_t = sigma(W_i x_t + b_i)                     input gate
        n_t = W_n x_t + b_n                            candidate
        h_t = f_t / (f_t + i_t) * h_{t-1} + i_t / (f_t + i_t) * n_t

    Source: Feng et al. 2024, "Were RNNs All We Needed?" (arXiv 2410.01201), section 3.2.
    """

    gates: ClassVar = ("forget", "input", "candidate")
    letters: ClassVar = ("f", "i", "n")

    def __init__(
        self, input_size: int, hidden_size: int, *, bias: bool = True, forget_bias: float = 1.0
    ) -> None:
        super().__init__(input_size, hidden_size, bias=bias)
        self.forget_bias = forget_bias

    def activations(self, projected: Tensor) -> tuple[Tensor, ...]:
        a_f, a_i, n = projected.chunk(3, -1)
        return torch.sigmoid(a_f), torch.sigmoid(a_i), n

    def coefficients(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        f, i, n = self.activations(projected)
        kept = f / (f + i)
        return kept, (1 - kept) * n

    @torch.no_grad()
    def reset_parameters(
        self, scheme: str, generator: torch.Generator, input_std: float | None = None
    ) -> None:
        """Fill the parameters, then open the forget gate."""
        super().reset_parameters(scheme, generator, input_std)
        if self.bias_ih is not None:
            self.bias_ih[: self.hidden_size] += self.forget_bias
