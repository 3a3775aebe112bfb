"""Settings of OpenMP's threads, made before torch is imported. A user's own settings win."""

import os
from pathlib import Path

SPINS = "1000"
"""Times that a thread of OpenMP looks for work before it sleeps; left alone, it looks for some
milliseconds, and takes them from the programs beside it."""
CGROUP = Path("/sys/fs/cgroup")


def set_up(cgroup: Path = CGROUP) -> None:
    """Let threads sleep soon, and have no more of them than a container's quota of processors."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    cores = quota(cgroup)
    if cores is not None and cores < (os.cpu_count() or 1):
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, round(cores))))


def quota(cgroup: Path) -> float | None:
    """Return the processors that a control group may use at a time; None without a limit.

    Source: cpu.max of version 2 of Linux's control groups, cpu.cfs_quota_us of version 1.
    """
    try:
        if (cgroup / "cpu.max").exists():
            most, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        else:
            most, period = (
                (cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text(encoding="ascii")
                for name in ("quota", "period")
            )
        return float(most) / float(period) if float(most) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # none, or "max"
        return None
