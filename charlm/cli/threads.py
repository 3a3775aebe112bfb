"""The number of OpenMP's threads, set before torch is imported. A user's own setting wins.

Their spinning is left as it is: with GOMP_SPINCOUNT at 10,000, 1,000 and 100, training by torch had
0.93, 0.77 and 0.19 of its speed when idle, and 0.34, 0.70 and 1.5 of it beside a busy program. The
kernels have threads of their own.
"""

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def set_up(cgroup: Path = CGROUP) -> None:
    """Limit the threads to a container's quota of processors."""
    cores = quota(cgroup)
    if cores is not None and cores < (os.cpu_count() or 1):
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, round(cores))))


def processors(cgroup: Path = CGROUP) -> int:
    """Return the number of processors that this process may use."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = quota(cgroup)
    return own if cores is None else max(1, min(own, round(cores)))


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
