"""Facts that the starts of one launch share, and facts that must be equal on all ranks.

torch's launcher may start all processes again after a failure: the run and the end recorded here
decide the next start.
"""

from collections.abc import Mapping
from typing import Any

from charlm.distributed.ranks import Ranks
from charlm.errors import UsageError

NOT_COMPARED = {"data.path", "train.device", "train.threads"}
"""Keys of the configuration that may differ between machines."""


def remember_run(ranks: Ranks, path: str) -> None:
    """Record the run's path, so that restarted workers resume it."""
    if ranks.leads and ranks.launch is not None:
        ranks.launch.set("run", path)


def remembered_run(ranks: Ranks) -> str:
    """Return, on all ranks, the run begun by an earlier start of this launch; "" if none."""
    path = ""
    if ranks.leads and ranks.launch is not None and ranks.launch.check(["run"]):
        path = ranks.launch.get("run").decode()
    return str(ranks.from_first(path))


def remember_end(ranks: Ranks, code: int) -> None:
    """Record the exit code with which the run ends, so that restarted workers do not resume it:
    a signal is not a failure."""
    if ranks.leads and ranks.launch is not None:
        ranks.launch.set("ended", str(code))


def remembered_end(ranks: Ranks) -> int:
    """Return the exit code recorded by an earlier start of this launch; 0 if none."""
    code = 0
    if ranks.leads and ranks.launch is not None:
        code = int(ranks.launch.get("ended")) if ranks.launch.check(["ended"]) else 0
    return int(ranks.from_first(code))


def refuse_differences(ranks: Ranks, facts: Mapping[str, Any]) -> None:
    """Check that all ranks have the same data, configuration and versions.

    Raises: UsageError on all of them, naming the differences.
    """
    if ranks.size == 1:
        return
    every = ranks.exchange({key: facts[key] for key in sorted({*facts} - NOT_COMPARED)})
    details = []
    for key in sorted(set().union(*every)):
        values = [own.get(key) for own in every]
        if other := next((n for n, value in enumerate(values) if value != values[0]), 0):
            details.append(f"{key}: {values[0]!r} on rank 0, {values[other]!r} on rank {other}")
    if details:
        raise UsageError(
            "the processes of this training differ", "start all of them alike", details
        )
