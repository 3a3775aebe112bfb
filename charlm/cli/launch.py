"""`charlm train --processes N`: torch's elastic launcher on this machine.

Several machines: `torchrun --nnodes ... --nproc-per-node N -m charlm -- train ...` on each of them.
Without the `--`, torchrun takes `--run` for an abbreviation of an option of its own.

The processes are in sessions of their own, so that the terminal's Ctrl-C reaches the launcher
alone. It passes every signal on as SIGTERM, which silently ends a Python that has no handlers yet,
and returns the exit code of the signal that it received itself.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import sys
import uuid
from dataclasses import asdict
from types import FrameType

import torch
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec
from torch.distributed.elastic.agent.server.api import WorkerState as State
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.rendezvous.static_tcp_rendezvous import StaticTCPRendezvous

from charlm.cli import rank, signals
from charlm.cli.arguments import TrainArguments
from charlm.cli.options import Debugging
from charlm.common.errors import CharlmError
from charlm.distributed.rank_errors import LostError

RESTARTS = 3
"""Most restarts of all processes, each after one was lost."""
SHUTDOWN = 5
"""Seconds for processes to end after a second signal, or after the loss of another process."""
ENDED_BY_AGENT = 128 + signal.SIGTERM
"""Exit code after SIGTERM, by which torch's agent ends the processes that are left."""
NOISY_LOGGERS = (
    "torch.distributed.elastic.agent.server.api",
    "torch.distributed.elastic.multiprocessing.api",
)
"""Loggers of torch.distributed.elastic to silence."""


def launch(processes: int, given: TrainArguments) -> int:
    """Train with several processes; return the exit code.

    Raises: CharlmError if they fail too often.
    """
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // processes)))
    if sys.platform == "linux":  # the host name may resolve to another machine's address
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # charlm reports lost processes itself
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGQUIT"  # the others: `_Agent.stop`
    os.environ[rank.COMMAND] = _for_ranks(given)
    agent = _Agent(_processes(processes))
    try:
        with signals.handled_by(agent.stop):
            failed = agent.run().is_failed()
    except SignalException as error:
        return 128 + int(error.sigval)
    if failed:
        raise CharlmError(
            f"processes of this training were lost {RESTARTS + 1} times",
            "see above why; then go on from the last checkpoint: the same with --resume",
        )
    return agent.code


def _for_ranks(given: TrainArguments) -> str:
    """Return the command for `rank.main`."""
    arguments = asdict(given) | {"run": None if given.run is None else str(given.run)}
    own = {"debug": Debugging.wanted, "launcher": os.getpid(), "path": sys.path}
    return json.dumps({"arguments": arguments, **own})


def _processes(count: int) -> WorkerSpec:
    """Return torch's specification of the processes of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return WorkerSpec(
        role="rank",
        local_world_size=count,
        entrypoint=sys.executable,
        args=("-P", "-c", rank.START),
        rdzv_handler=StaticTCPRendezvous("127.0.0.1", port, 0, 1, uuid.uuid4().hex, timeout=60),
        max_restarts=RESTARTS,
    )


class _Agent(LocalElasticAgent):
    """torch's elastic agent, which restarts all processes if one is lost.

    It does not if one ends with an error, or after a signal. code: the exit code in these cases.
    """

    def __init__(self, processes: WorkerSpec) -> None:
        super().__init__(processes, DefaultLogsSpecs(os.devnull), shutdown_timeout=SHUTDOWN)
        self.code = 0
        self._signals: list[int] = []
        self._asked: set[int] = set()

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Make all processes end after their step; a second Ctrl-C does not wait for it."""
        self._signals.append(number)
        signals.hasten(number)
        if len(self._signals) > 1 and number == signal.SIGINT:
            raise KeyboardInterrupt

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        if self._signals and self._pcontext is not None:
            for pid in {*self._pcontext.pids().values()} - self._asked:
                self._asked.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        result: RunResult = super()._monitor_workers(worker_group)
        if not result.is_failed():
            return result
        codes = [failure.exitcode for failure in result.failures.values()]
        if self._signals:
            self.code = 128 + self._signals[0]
        elif not (code := _code_of_all(codes)):
            return result
        else:
            self.code = code
        ends = {worker.global_rank: None for worker in worker_group.workers}
        return RunResult(State.SUCCEEDED, return_values=ends)

    def _shutdown(
        self, death_sig: signal.Signals = signal.SIGTERM, timeout: int = SHUTDOWN
    ) -> None:
        if len(self._signals) > 1 and self._signals[-1] == signal.SIGINT:
            death_sig = signal.SIGKILL
        super()._shutdown(death_sig, timeout)


def _code_of_all(codes: list[int]) -> int:
    """Return the exit code of processes that have ended by themselves; 0 if one was lost.

    codes: of those that failed, and of those that torch's agent then ended by SIGTERM; minus the
        signal, of one that had no handler of it.
    """
    ends = [128 - code if -code in signals.STOPPING else code for code in codes]
    if errors := [code for code in ends if 0 < code < 128 and code != LostError.exit_code]:
        return max(errors)
    if any(code < 0 or code == LostError.exit_code for code in ends):
        return 0
    return max({*ends} - {ENDED_BY_AGENT}, default=ENDED_BY_AGENT)
