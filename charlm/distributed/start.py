"""Connection to the other processes that torch's launcher has started."""

import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from charlm.common.errors import UsageError
from charlm.distributed.ranks import ALONE, Ranks

TIMEOUT, LONG_TIMEOUT = timedelta(minutes=30), timedelta(days=7)
"""Longest waits for another rank: in training, and while that rank encodes a text. They end a wait
for a rank that hangs; if a process ends, the others notice at once."""
NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Variables that torch's launcher sets for every process, in addition to WORLD_SIZE."""


def is_one_of_several() -> bool:
    """Return True if `join` will wait for other processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def join(timeout: timedelta = TIMEOUT) -> Ranks:
    """Connect to the processes of the same launch; return a single rank if there are no others.

    Raises: UsageError if the launcher's variables are incomplete; LostError if the others do not
        connect.
    """
    if not is_one_of_several():
        return ALONE
    size = int(os.environ["WORLD_SIZE"])
    if missing := [name for name in NEEDED if name not in os.environ]:
        raise UsageError(
            f"WORLD_SIZE is {size}, but there is no {', '.join(missing)}",
            "start with --processes N or by torchrun; for a single process, unset WORLD_SIZE",
        )
    nccl = torch.cuda.is_available() and dist.is_nccl_available()
    ranks = Ranks(int(os.environ["RANK"]), size, int(os.environ["LOCAL_RANK"]))
    ranks.neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    ranks.restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    with ranks.answered():
        whole, rank, _ = next(iter(rendezvous("env://", timeout=timeout)))
        # A prefix for each start: without it, the addresses of the processes before would be found.
        store = PrefixStore(f"start-{ranks.restarts}", whole)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if nccl else "gloo",
            store=store, rank=rank, world_size=size, timeout=timeout,
        )  # fmt: skip
        ranks.long_timeout_group = dist.new_group(backend="gloo", timeout=LONG_TIMEOUT)
    ranks.store = PrefixStore("charlm", store)
    ranks.launch = PrefixStore(os.environ.get("TORCHELASTIC_RUN_ID", "charlm"), whole)
    ranks.wait_seconds = 0.0
    return ranks
