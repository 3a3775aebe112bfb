"""Exchange of errors between ranks.

A rank that fails puts its error into the launcher's store. The others wait for that rank in vain,
look into the store, and end with the same error.
"""

import contextlib
import json
from datetime import timedelta

from charlm.common.errors import CharlmError
from charlm.distributed.rank_errors import ReportedError
from charlm.distributed.ranks import Ranks

TIME_TO_PRINT = timedelta(seconds=10)


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
