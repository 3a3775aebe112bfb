"""Program of one of the processes of `charlm train --processes N`, started by `launch`.

It sets signal handlers before it imports torch; the command comes through the environment.
"""

import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from charlm.cli import signals, streams

COMMAND = "CHARLM_RANK"
"""Variable with the command as JSON: `TrainArguments`, and additions of `launch`."""
START = (
    f"import json, os, sys; sys.path[:] = json.loads(os.environ['{COMMAND}'])['path']; "
    "from charlm.cli import rank; rank.main()"
)
"""The program of a process: it imports from the launcher's path."""
SECONDS_BETWEEN_LOOKS = 0.5
SIGNAL_AT_PARENTS_DEATH = 1
"""PR_SET_PDEATHSIG of Linux's prctl."""


def main() -> None:
    """Train as one of the processes, and exit with the code of the command."""
    signals.exit_on_signals()
    command = json.loads(os.environ[COMMAND])
    _end_with(command["launcher"])
    streams.secure()
    code = _train(command)
    streams.discard_unwritten()
    for number in signals.heeded():  # all work is done, so a signal may end the process at once
        signal.signal(number, signal.SIG_DFL)
    signals.leave(code)


def _train(command: Mapping[str, Any]) -> int:
    from charlm.cli import worker
    from charlm.cli.arguments import TrainArguments
    from charlm.cli.options import Debugging
    from charlm.cli.outcome import exit_code_of

    Debugging.wanted = command["debug"]
    arguments = command["arguments"]
    run = Path(arguments["run"]) if arguments["run"] is not None else None
    given = TrainArguments(**arguments | {"run": run})
    return exit_code_of(lambda: worker.train(given))


def _end_with(launcher: int) -> None:
    """End as by SIGTERM, with the step saved, once the launcher has ended, as by kill -9."""
    if sys.platform == "linux":  # at once, before the loss of the launcher's store is an error
        ctypes.CDLL(None).prctl(SIGNAL_AT_PARENTS_DEATH, signal.SIGTERM)

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
