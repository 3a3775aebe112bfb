"""Filters on the logits as pure functions, [N, V] -> [N, V], and the choice of a symbol."""

import math

import torch
from torch import Tensor

from charlm.config.schema import SampleConfig


def with_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Divide logits by a positive temperature: below 1 sharper, above 1 flatter."""
    return logits / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Set all but the k largest logits to -inf (ties with the k-th stay)."""
    if k >= logits.shape[-1]:
        return logits
    smallest_kept = logits.topk(k).values[..., -1:]
    return logits.masked_fill(logits < smallest_kept, -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Set all to -inf but the fewest most probable symbols that reach p together.

    Source: Holtzman et al. 2020 (arXiv 1904.09751), section 3.1.
    """
    ordered, indices = logits.sort(descending=True)
    before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    dropped = before >= p
    dropped[..., 0] = False
    return logits.masked_fill(torch.zeros_like(dropped).scatter(-1, indices, dropped), -math.inf)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Set all to -inf but symbols at least p times as probable as the most probable one.

    Source: Nguyen et al. 2024 (arXiv 2407.01082), section 3.
    """
    largest = logits.amax(-1, keepdim=True)
    return logits.masked_fill(logits.double() < largest.double() + math.log(p), -math.inf)


def with_repetition_penalty(logits: Tensor, repeats: Tensor, penalty: float) -> Tensor:
    """Divide the positive logits of symbols that repeat by the penalty; multiply negative ones.

    Shapes: logits, repeats (bool), result [N, V].

    Source: Keskar et al. 2019 (arXiv 1909.05858), section 4.1; negative logits, which a division
    would raise, as in the field's libraries.
    """
    penalized = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(repeats, penalized, logits)


def choose(logits: Tensor, config: SampleConfig, uniform: Tensor) -> Tensor:
    """Choose one symbol per row, by inverting the cumulative distribution at `uniform` in [0, 1).

    Shapes: logits [N, V], uniform [N], result [N] (int64).
    """
    if config.temperature == 0:
        return logits.argmax(-1)
    logits = with_temperature(logits, config.temperature)
    if config.top_k:
        logits = keep_top_k(logits, config.top_k)
    if config.top_p < 1:
        logits = keep_top_p(logits, config.top_p)
    if config.min_p:
        logits = keep_min_p(logits, config.min_p)
    cumulative = logits.double().softmax(-1).cumsum(-1)
    threshold = uniform.double().unsqueeze(-1) * cumulative[..., -1:]
    # The first symbol whose cumulative probability exceeds the threshold has a probability above 0.
    chosen = torch.searchsorted(cumulative, threshold, right=True).squeeze(-1)
    return chosen.clamp(max=logits.shape[-1] - 1)  # out of bounds if logits are NaN
