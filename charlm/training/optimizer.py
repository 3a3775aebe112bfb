"""AdamW over named parameters, and the running average of the weights.

Why not `torch.optim.AdamW`: creating one imports torch's compiler, 1.1 s of a run that should
train within the first three; its `load_state_dict` matches parameters by position and casts. This
one calls the same fused kernel, keeps its state by name and is tested to give the same bits.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn


class AdamW:
    """Adam over named parameters, with decoupled weight decay of matrices, never of biases.

        m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
        w = w - lr * decay * w - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + 1e-8)

    Source: Loshchilov and Hutter 2019 (arXiv 1711.05101), algorithm 2.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        *,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        self.betas, self.parameters = betas, parameters
        self.first = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self.second = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        device = next(iter(self.parameters.values())).device
        self.count = torch.zeros((), dtype=torch.float32, device=device)
        """Steps taken; a tensor, because the fused kernel reads it on the device."""
        matrices = [name for name, p in self.parameters.items() if p.dim() > 1]
        vectors = [name for name, p in self.parameters.items() if p.dim() <= 1]
        self._groups = ((matrices, weight_decay), (vectors, 0.0))

    @torch.no_grad()
    def step(self, learning_rate: float, *, clip_norm: float = 0.0) -> Tensor:
        """Update every parameter from its gradient, and drop the gradients.

        clip_norm: scales all gradients down together where their norm is larger; 0 never does.
            Source: Pascanu et al. 2013 (arXiv 1211.5063), algorithm 1.

        Returns: the norm of the gradient before clipping, on the device.
        """
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients, foreach=True)
        scale = (norm / clip_norm).clamp(min=1.0) if clip_norm else None
        if scale is not None and norm.device.type not in ("cpu", "cuda"):
            torch._foreach_div_(gradients, scale)  # other devices may ignore grad_scale
            scale = None  # here it divides as it reads: clipping takes no pass of its own
        self.count += 1
        for names, decay in self._groups:
            parameters: list[Tensor] = [self.parameters[name] for name in names]
            torch._fused_adamw_(
                parameters,
                [p.grad for p in parameters if p.grad is not None],
                [self.first[name] for name in names],
                [self.second[name] for name in names],
                [],
                [self.count] * len(names),
                amsgrad=False,
                lr=learning_rate,
                beta1=self.betas[0],
                beta2=self.betas[1],
                weight_decay=decay,
                eps=1e-8,
                maximize=False,
                grad_scale=scale,
            )
        for parameter in self.parameters.values():
            parameter.grad = None
        return norm

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a resumed run needs, by name."""
        moments = {f"first.{name}": value for name, value in self.first.items()}
        moments |= {f"second.{name}": value for name, value in self.second.items()}
        return {**moments, "count": self.count}

    def load(self, state: dict[str, Tensor]) -> None:
        """Load the tensors of `state`. Raises: KeyError for a tensor that is missing."""
        for name, value in self.state().items():
            value.copy_(state[name])


@torch.no_grad()
def update_average(
    averages: Iterable[Tensor], weights: Iterable[Tensor], *, decay: float, step: int
) -> None:
    """Move the averages towards the weights: a = d a + (1 - d) w, with d = `decay` in the long run.

    Early on d is (1 + step) / (10 + step), so that the random start is soon forgotten.

    Source: Polyak and Juditsky 1992; Morales-Brotons et al. 2024 (arXiv 2411.18704).
    """
    torch._foreach_lerp_(list(averages), list(weights), share_of_new(decay, step))


def share_of_new(decay: float, step: int) -> float:
    """Return the share by which `update_average` moves the averages, 1 - d, after `step` steps."""
    return 1 - min(decay, (1 + step) / (10 + step))
