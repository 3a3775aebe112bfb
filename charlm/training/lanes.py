"""The states of the lanes that a rank computes, group by group, and of all lanes together."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from charlm.common.errors import UsageError
from charlm.config.schema import TrainConfig
from charlm.distributed.ranks import Ranks
from charlm.models.recurrent import States

Merge = Callable[[Sequence[Tensor]], Tensor]
"""Merges the tensors of a rank's groups of lanes into one."""


def groups_of(config: TrainConfig, ranks: Ranks) -> list[range]:
    """Return this rank's lanes in every group of `batch_size` lanes of a step.

    Raises: UsageError if the ranks cannot have equal shares.
    """
    size, share = config.batch_size, ranks.share(config.batch_size)
    if size % ranks.size:
        raise UsageError(
            f"train.batch_size = {size} lanes cannot be shared equally by {ranks.size} processes",
            f"use a multiple of {ranks.size}, or another number of processes",
        )
    firsts = range(0, config.lanes, size)
    return [range(first + share.start, first + share.stop) for first in firsts]


def all_lanes(config: TrainConfig) -> Merge:
    """Return a merge that yields meta tensors: shape and dtype of all lanes, no data."""
    return lambda groups: torch.empty(
        (config.lanes, *groups[0].shape[1:]), dtype=groups[0].dtype, device="meta"
    )


def merged(groups: Sequence[States], merge: Merge) -> States:
    """Merge the states of groups of lanes, part by part."""
    return [
        tuple(merge(parts) for parts in zip(*layer, strict=True))
        for layer in zip(*groups, strict=True)
    ]


def parted(states: States, groups: Sequence[range], device: torch.device) -> list[States]:
    """Split the states of all lanes into those of groups of lanes."""
    return [
        [tuple(part[lanes.start : lanes.stop].to(device) for part in state) for state in states]
        for lanes in groups
    ]


def named(prefix: str, states: States) -> dict[str, Tensor]:
    """Name the tensors of states by layer and part."""
    return {
        f"{prefix}.{layer}.{part}": value
        for layer, state in enumerate(states)
        for part, value in enumerate(state)
    }


def from_named(prefix: str, tensors: dict[str, Tensor], like: States) -> States:
    """Return the states from tensors named by `named`."""
    return [
        tuple(tensors[f"{prefix}.{layer}.{part}"] for part in range(len(state)))
        for layer, state in enumerate(like)
    ]
