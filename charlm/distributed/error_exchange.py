"""Exchange of errors between ranks.

A rank that fails puts its error into the launcher's store. The others wait for that rank in vain,
look into the store, and end with the same error.
"""

import contextlib
import json
import os
import time
from datetime import timedelta

from charlm.common.errors import CharlmError
from charlm.distributed.rank_errors import LostError, ReportedError
from charlm.distributed.ranks import Ranks

TIME_TO_PRINT = timedelta(seconds=10)
TIME_TO_READ = 10.0
SECONDS_BETWEEN_LOOKS = 0.05


def report_error(ranks: Ranks, error: CharlmError) -> bool:
    """Store the error that ends this rank, unless another rank has stored one.

    Returns: True if this rank must print its error: no other was first, or the store is gone.
    """
    if ranks.store is None or isinstance(error, ReportedError):
        return ranks.store is None
    mine = {"rank": ranks.rank, "what": error.what, "advice": error.advice}
    mine["exit_code"] = error.exit_code
    try:
        first = ranks.store.compare_set("error", "", json.dumps(mine))
    except RuntimeError:
        return True
    return bool(json.loads(first)["rank"] == ranks.rank)


def wait_until_printed(ranks: Ranks, *, printed: bool) -> None:
    """Wait until an error is printed, because the launcher kills all ranks as soon as one ends.

    printed: True if this rank has printed it.
    """
    with contextlib.suppress(RuntimeError):
        if ranks.store is not None and printed:
            ranks.store.set("printed", "")
        elif ranks.store is not None:
            ranks.store.wait(["printed"], TIME_TO_PRINT)


def keep_store(ranks: Ranks, error: CharlmError) -> None:
    """Keep the store, if this rank serves it, until the others have read the error, ten seconds at
    most; after a loss, which another rank may have reported, not at all.

    Without torch's launcher, as under Slurm, rank 0 serves the store, which ends with its process;
    a rank that looks for the error later would take it for the loss of a process. Call it once the
    connections between the ranks are closed, so that no rank waits for them.
    """
    if ranks.store is None or error.exit_code == LostError.exit_code:  # a lost rank reads nothing
        return
    with contextlib.suppress(RuntimeError, MemoryError):
        if ranks.rank or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            ranks.store.add("read", 1)
            return
        until = time.monotonic() + TIME_TO_READ
        while ranks.store.add("read", 0) < ranks.size - 1 and time.monotonic() < until:
            time.sleep(SECONDS_BETWEEN_LOOKS)
