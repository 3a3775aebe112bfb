"""State of a launch, for workers that the launcher restarts; a check that all ranks are alike.

After a failure, torch's launcher restarts all workers. The run recorded here is then resumed; if an
end is recorded, the new workers end at once.
"""

from collections.abc import Mapping
from typing import Any

from charlm.common.errors import UsageError
from charlm.distributed.ranks import Ranks

NOT_COMPARED = {"data.path", "train.device", "train.threads"}
"""Keys of the configuration that may differ between machines."""


def remember_run(ranks: Ranks, path: str) -> None:
    """Record the run's path, so that restarted workers resume it."""
    _record(ranks, "run", path)


def remembered_run(ranks: Ranks) -> str:
    """Return the run that earlier workers of this launch began, on all ranks; "" if none."""
    return str(ranks.from_first(_recorded(ranks, "run")))


def remember_end(ranks: Ranks, code: int) -> None:
    """Record the exit code of a run that the user has stopped, so that workers end with it.

    The launcher takes an end by a signal for a failure, and starts all workers again.
    """
    _record(ranks, "ended", str(code))


def remembered_end(ranks: Ranks) -> int:
    """Return the exit code that earlier workers recorded, on all ranks; 0 if none."""
    return int(ranks.from_first(_recorded(ranks, "ended")) or 0)


def _record(ranks: Ranks, key: str, value: str) -> None:
    """Put the leader's value into the launcher's store, if there is one.

    Raises: LostError, ReportedError.
    """
    if ranks.leads and ranks.launch is not None:
        with ranks.answered():
            ranks.launch.set(key, value)


def _recorded(ranks: Ranks, key: str) -> str:
    """Return a value of the launcher's store on the leader; "" if there is none.

    Raises: LostError, ReportedError.
    """
    if not ranks.leads or ranks.launch is None:
        return ""
    with ranks.answered():
        return ranks.launch.get(key).decode() if ranks.launch.check([key]) else ""


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
