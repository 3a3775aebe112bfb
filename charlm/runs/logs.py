"""Metrics of a run in the logs of other programs: TensorBoard, trackio.

Importing this imports neither.
"""

import contextlib
import sys
from collections.abc import Mapping, Sequence, Set
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from charlm.common.errors import UsageError

PROJECT = "charlm"
"""Project of all runs in trackio."""
FOLDER = "tensorboard"
"""Folder, within a run, of TensorBoard's files."""
POSITION = ("kind", "step", "characters", "seconds")
"""Keys of a row that are no value to draw."""

Row = Mapping[str, Any]


class Log(Protocol):
    """A log of another program."""

    def add(self, step: int, scalars: Mapping[str, float], text: str) -> None:
        """Add values by name and, unless it is empty, a sample."""

    def close(self) -> None: ...


class TensorBoard:
    """TensorBoard's files in a run's folder `tensorboard`."""

    def __init__(self, run: Path, config: str) -> None:
        from torch.utils.tensorboard import SummaryWriter  # here: it takes a second

        self._writer: Any = SummaryWriter(str(run / FOLDER))
        self._writer.add_text("configuration", _indented(config), 0)

    def add(self, step: int, scalars: Mapping[str, float], text: str) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        if text:
            self._writer.add_text("sample", _indented(text), step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Trackio:
    """A run of trackio's local project `charlm`, with the name of the run's folder."""

    def __init__(self, run: Path, config: str) -> None:
        import trackio

        with contextlib.redirect_stdout(sys.stderr):  # stdout is for the result of the command
            self._run: Any = trackio.init(
                PROJECT,
                run.absolute().name,
                config={"path": str(run.absolute()), "configuration": config},
                resume="allow",
                embed=False,
            )

    def add(self, step: int, scalars: Mapping[str, float], text: str) -> None:
        values: dict[str, Any] = dict(scalars)
        self._run.log(values | ({"sample": text} if text else {}), step=step)

    def close(self) -> None:
        with contextlib.redirect_stdout(sys.stderr):
            self._run.finish()


LOGS: dict[str, type[TensorBoard] | type[Trackio]] = {
    "tensorboard": TensorBoard,
    "trackio": Trackio,
}


def refuse_missing(names: Sequence[str]) -> None:
    """Check that the packages of logs are installed. Raises: UsageError."""
    for name in names:
        if name in LOGS and find_spec(name) is None:
            raise UsageError(
                f"the package {name} is not installed", f"install it: pip install 'charlm[{name}]'"
            )


class Logs:
    """The logs that a run's metrics are copied to. repeated: kinds and steps of rows that they have
    already: a resumed run repeats steps with the same results."""

    def __init__(
        self, names: Sequence[str], run: Path, config: str, repeated: Set[tuple[str, int]]
    ) -> None:
        refuse_missing(names)
        self._logs: list[Log] = [LOGS[name](run, config) for name in names]
        self._repeated = repeated

    def add(self, row: Row) -> None:
        """Add a row of metrics.jsonl: "train/loss", "eval/loss" and so on."""
        if (row["kind"], row["step"]) in self._repeated:
            return
        scalars = {
            f"{row['kind']}/{name}": float(value)
            for name, value in row.items()
            if name not in POSITION and isinstance(value, int | float)
        }
        for log in self._logs:
            log.add(row["step"], scalars, row.get("text", ""))

    def close(self) -> None:
        """Write and close all."""
        for log in self._logs:
            log.close()


def _indented(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    return "\n".join(f"    {line}" for line in text.split("\n"))
