"""The network of one rank of a training, on which one message fails; see test_messages.py.

A message is a call of a collective of torch.distributed or of the launcher's store. TCP neither
doubles nor reorders bytes, so a collective can be late, or be lost with its connection; a request
to the store may also be carried out twice.
"""

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore

from charlm.distributed import start

COLLECTIVES = ("barrier", "all_gather", "all_reduce")
REQUESTS = ("set", "get", "check", "compare_set", "wait")
TIMEOUT = 3.0
"""Seconds that a rank waits for another, where charlm waits half an hour."""
LATE = 1.0
"""Seconds by which a message is late."""
FULL = 4096
"""Bytes of the largest file that a full disk takes: messages fit, checkpoints do not."""


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _lose() -> None:
    time.sleep(TIMEOUT)
    raise RuntimeError("[rank_faults] Timed out waiting for an answer")


def _stop() -> None:
    """Stop this process for longer than the others wait."""
    again = f"sleep {TIMEOUT + 1}; kill -CONT {os.getpid()}"
    with subprocess.Popen(["sh", "-c", again]):
        os.kill(os.getpid(), signal.SIGSTOP)


def _fill() -> None:
    """Let every write beyond `FULL` bytes of a file fail from here on."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, FULL))


BEFORE: dict[str, Callable[[], object]] = {
    "killed": _kill,
    "lost": _lose,
    "late": lambda: time.sleep(LATE),
    "stopped": _stop,
    "full": _fill,
}
AFTER: dict[str, Callable[[], object]] = {"killed after it": _kill}
KINDS = (*BEFORE, *AFTER, "doubled")


def main(kind: str, at: int, record: str) -> None:
    """Run charlm with a fault at message number `at`, counted from 1; 0 disturbs nothing.

    record: file for the names of all messages, written at the end.
    """
    names: list[str] = []

    def disturbed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def message(*given: Any, **options: Any) -> Any:
            names.append(name)
            if is_met := len(names) == at:
                BEFORE.get(kind, int)()
            result = call(*given, **options)
            if is_met and kind == "doubled" and name in REQUESTS:
                result = call(*given, **options)
            if is_met:
                AFTER.get(kind, int)()
            return result

        return message

    for name in COLLECTIVES:
        setattr(dist, name, disturbed(name, getattr(dist, name)))
    for name in REQUESTS:
        setattr(PrefixStore, name, disturbed(name, getattr(PrefixStore, name)))
    start.join.__defaults__ = (timedelta(seconds=TIMEOUT),)
    start.LONG_TIMEOUT = timedelta(seconds=TIMEOUT)
    from charlm.__main__ import main as charlm

    try:
        charlm()
    finally:
        if record:
            Path(record).write_text(json.dumps(names), encoding="ascii")
