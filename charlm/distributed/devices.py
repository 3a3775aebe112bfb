"""The device of each rank."""

import torch
import torch.distributed as dist

from charlm.backends.device import resolve_device
from charlm.common.errors import UsageError
from charlm.distributed.ranks import Ranks


def device_of(ranks: Ranks, name: str) -> torch.device:
    """Resolve the device of `--device`; every rank of a machine gets a GPU of its own.

    Raises: UsageError if it is not available, or if several ranks would share a GPU.
    """
    device = resolve_device(name)
    if ranks.size == 1 or device.type == "cpu":
        return device
    if device.type != "cuda" or not dist.is_nccl_available():
        if name == "auto":
            return torch.device("cpu")
        raise UsageError(
            f"several processes cannot train on {device.type} here", "use --device cpu"
        )
    count = torch.cuda.device_count()
    if ":" in name:
        raise UsageError(
            f"{ranks.size} processes cannot share the GPU {name}",
            "give --device cuda: each process takes one of its own",
        )
    if ranks.here >= count:
        raise UsageError(
            f"there are more processes than GPUs, of which this machine has {count}",
            f"use {count} processes here, or --device cpu",
        )
    torch.cuda.set_device(ranks.here)
    return torch.device("cuda", ranks.here)
