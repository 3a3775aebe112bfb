"""`charlm train --processes N`: torch's elastic launcher on this machine.

Several machines: `torchrun --nnodes ... --nproc-per-node N -m charlm -- train ...` on each of them.
Without the `--`, torchrun takes `--run` for an abbreviation of an option of its own.
"""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import uuid
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from charlm.backends.lost import LostError
from charlm.cli import signals, streams
from charlm.cli import train as command
from charlm.cli.arguments import TrainArguments
from charlm.cli.options import Debugging
from charlm.cli.outcome import exit_code_of
from charlm.errors import CharlmError

RESTARTS = 3
"""Starts of all processes, at most, after the first one: each after one was lost."""
SHUTDOWN = 5
"""Seconds for processes to end that are asked a second time, or are left behind by a lost one."""
STOPPED = "CHARLM_STOPPED_BY"
"""The variable that tells processes of the signal which their launcher has had before them."""
TALKATIVE = (
    "torch.distributed.elastic.agent.server.api",
    "torch.distributed.elastic.multiprocessing.api",
    "torch.multiprocessing.spawn",
)
"""What of torch's launcher would print how it is built."""


def launch(processes: int, given: TrainArguments, path: Path | None, options: Any) -> int:
    """Train with several processes; return the exit code. options: as of `train.train`.

    Raises: CharlmError where they fail too often.
    """
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // processes)))
    if sys.platform == "linux":  # the machine's name may lead to an address that is not its own
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with tempfile.TemporaryDirectory(prefix="charlm-") as logs, signals.handled_by(_pass_on):
        started = elastic_launch(_configuration(processes, logs), work)
        try:
            codes = started(given, path, options, Debugging.wanted)
        except ChildFailedError:
            if STOPPED in os.environ:
                return 128 + int(os.environ[STOPPED])
            raise CharlmError(
                f"processes of this training were lost {RESTARTS + 1} times",
                "see above why; then go on from the last checkpoint: the same with --resume",
            ) from None
    return int(max(codes.values()))


def _configuration(processes: int, logs: str) -> LaunchConfig:
    """Return how torch is to start the processes of this one machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="static",
        rdzv_endpoint=f"127.0.0.1:{port}",
        rdzv_configs={"rank": 0},
        local_addr="127.0.0.1",
        max_restarts=RESTARTS,
        signals_to_handle="SIGQUIT",  # the others: `_pass_on`
        shutdown_timeout=SHUTDOWN,
        logs_specs=DefaultLogsSpecs(log_dir=logs),
    )


def _pass_on(number: int, frame: FrameType | None) -> None:
    """Pass a signal on, and wait for the processes to end after their step; a second Ctrl-C does
    not wait. (torch's own handler would wait for processes that wait for it.)"""
    if STOPPED in os.environ and number == signal.SIGINT:
        raise KeyboardInterrupt
    os.environ.setdefault(STOPPED, str(number))
    for process in multiprocessing.active_children():
        if process.pid is not None:
            os.kill(process.pid, number)


def work(given: TrainArguments, path: Path | None, options: Any, debug: bool) -> int:
    """Train as one of the processes; return the exit code. What should be tried again ends the
    process, which the launcher takes for a failure; one that returns waits for the others."""
    launcher, Debugging.wanted = os.getppid(), debug
    signals.exit_on_signals()
    streams.secure()
    if STOPPED in os.environ:
        return 128 + int(os.environ[STOPPED])
    ended: list[int] = []
    code = exit_code_of(lambda: ended.append(command.train(given, path, **options)))
    streams.discard_unwritten()
    for number in signals.heeded():
        signal.signal(number, signal.SIG_DFL)
    if not ended or ended[0] == LostError.exit_code or os.getppid() != launcher:
        sys.exit(code or 1)
    return code or ended[0]
