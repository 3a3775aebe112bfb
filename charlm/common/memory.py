"""Available memory, and the refusal of work that needs more."""

from pathlib import Path

from charlm.common.errors import UsageError
from charlm.common.wording import different_sizes


def available() -> int | None:
    """Return the bytes that a process can still allocate; None if the system does not report it."""
    limits = [free for free in (_of_system(), _of_group()) if free is not None]
    return min(limits) if limits else None


def refuse_more(needed: float, free: int | None, what: str, advice: str) -> None:
    """Refuse work that needs more memory than is free.

    needed, free: in bytes; None is unknown, and refuses nothing. what: names the work in the error.

    Raises: UsageError, with both figures.
    """
    if free is not None and needed > free:
        most, there = different_sizes(needed, free)
        raise UsageError(f"{what} needs at least {most} of memory, {there} are free", advice)


def _of_system() -> int | None:
    """Return Linux's estimate of available bytes; None elsewhere."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _of_group() -> int | None:
    """Return the bytes left by a container's limit (control groups, version 2, then 1)."""
    for folder, limit, used in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            most, now = (int((Path(folder) / name).read_text("ascii")) for name in (limit, used))
        except (OSError, ValueError):  # none, or "max"
            continue
        return max(0, most - now + _reclaimable(Path(folder)))
    return None


def _reclaimable(group: Path) -> int:
    """Return the bytes of cached files, which a group counts as used but frees on demand."""
    try:
        pairs = (line.split() for line in (group / "memory.stat").read_text("ascii").splitlines())
        return sum(int(size) for name, size in pairs if name in ("inactive_file", "active_file"))
    except (OSError, ValueError):
        return 0
