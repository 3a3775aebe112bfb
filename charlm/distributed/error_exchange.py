"""Exchange of errors between ranks.

A rank that fails puts its error into the store: the launcher's, else that of rank 0. The others
wait for that rank in vain, look into the store (`ranks`), and end with the same error.
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
"""Seconds."""
UNREACHED = RuntimeError, MemoryError
"""Errors raised where the store is gone, or where memory is too short to ask it."""
SECONDS_BETWEEN_LOOKS = 0.05


def report_error(ranks: Ranks, error: CharlmError) -> bool:
    """Store the error that ends this rank, unless another rank has stored one, or this one has it
    from there (`ReportedError`).

    Returns: True if this rank must print its error: no other was first, or the store is gone.
    """
    if ranks.store is None or isinstance(error, ReportedError):
        return ranks.store is None
    mine = {"rank": ranks.rank, "what": error.what, "advice": error.advice}
    mine["exit_code"] = error.exit_code
    try:
        first = ranks.store.compare_set("error", "", json.dumps(mine))
    except UNREACHED:
        return True
    return bool(json.loads(first)["rank"] == ranks.rank)


def wait_until_printed(ranks: Ranks, *, printed: bool) -> None:
    """Wait until an error is printed, because the launcher kills all ranks as soon as one ends.

    printed: True if this rank has printed it.
    """
    with contextlib.suppress(*UNREACHED):
        if ranks.store is not None and printed:
            ranks.store.set("printed", "")
        elif ranks.store is not None:
            ranks.store.wait(["printed"], TIME_TO_PRINT)


def keep_store(ranks: Ranks, error: CharlmError) -> None:
    """Keep the store, if this rank serves it, until the other ranks have read the error; on another
    rank, note in the store that this one has.

    Waits at most `TIME_TO_READ`; after a rank is lost it does not wait, because a lost rank reads
    nothing. Without torch's launcher, as under Slurm, the store ends with the process of rank 0; a
    rank that reads later would take the end of the store for a loss. Close the connections between
    the ranks before, so that the others stop waiting for this one.
    """
    if ranks.store is None:
        return
    with contextlib.suppress(*UNREACHED):
        if ranks.rank or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            ranks.store.set(f"read-{ranks.rank}", "")
            return
        if error.exit_code == LostError.exit_code:  # reported by this rank or by another
            return
        until = time.monotonic() + TIME_TO_READ
        others = [f"read-{rank}" for rank in range(1, ranks.size)]
        while not ranks.store.check(others) and time.monotonic() < until:
            time.sleep(SECONDS_BETWEEN_LOOKS)
