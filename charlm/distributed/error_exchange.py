"""An error of one rank, made known to the others.

It is put into the launcher's store, where the others find it once that rank no longer answers.
"""

import contextlib
import json
from datetime import timedelta

from charlm.distributed.rank_errors import ReportedError
from charlm.distributed.ranks import Ranks
from charlm.errors import CharlmError

TIME_TO_PRINT = timedelta(seconds=10)


def report_error(ranks: Ranks, error: CharlmError) -> bool:
    """Store an error that ends this rank, for the others; return True if this rank is the first
    with an error, and so should print it."""
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
    """Wait until an error is printed: the launcher ends all ranks once one has failed.

    printed: True if this rank has printed it.
    """
    with contextlib.suppress(RuntimeError):
        if ranks.store is not None and printed:
            ranks.store.set("printed", "")
        elif ranks.store is not None:
            ranks.store.wait(["printed"], TIME_TO_PRINT)
