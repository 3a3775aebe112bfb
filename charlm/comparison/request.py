"""A request for a comparison. Importing this does not import torch."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from charlm.common.errors import UsageError
from charlm.config import loading
from charlm.config.layers import ConfigLayers
from charlm.text.files import streams, tasks

Match = Literal["parameters", "hidden", "time", "operations"]
MATCHES: tuple[Match, ...] = ("parameters", "hidden", "time", "operations")
TRIALS = range(2, 101)
"""Possible numbers of trials of a random search."""
SEEDS = 5
"""Default number of runs of each cell: fewer show too little of the spread."""


@dataclass(frozen=True)
class CompareRequest:
    """The cells of a comparison and its terms.

    cells: see `parse_cell`. config: a preset or a `.toml` file; "": the preset `compare` or, on a
    task, `task`. changes, flags: as for `loading.load`. seeds: runs of each cell; None takes 5, or
    the number of a paper's study. tune: True searches for each cell's learning rate and dropout
    first. task: a name of `charlm.text.files.tasks.TASKS`; "": a text. search: the trials of each
    cell in a random search instead; None without one.
    """

    cells: Sequence[str]
    config: str = ""
    changes: Sequence[str] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)
    match: Match = "parameters"
    seeds: int | None = None
    tune: bool = False
    task: str = ""
    search: int | None = None

    def __post_init__(self) -> None:
        """Refuse an impossible search. Raises: UsageError."""
        if self.search is None:
            return
        if self.search not in TRIALS:
            raise UsageError(
                f"{self.search} is no number of trials of a search",
                f"give {TRIALS[0]} to {TRIALS[-1]}, as in --search 8",
            )
        if self.tune:
            raise UsageError(
                "--tune and --search both search for every cell's values", "leave one of them out"
            )

    @property
    def preset(self) -> str:
        """The preset or the `.toml` file."""
        return self.config or ("task" if self.task else "compare")

    def layers(self) -> ConfigLayers:
        """Read the configuration. Raises: UsageError, ConfigError, DataError."""
        flags = dict(self.flags)
        if self.task:
            self._refuse_text()
            flags |= tasks.settings(self.task)
        self._refuse_twice()
        return loading.load(self.preset, self.changes, flags)

    @property
    def paths(self) -> list[str]:
        """The texts that options name; if there are several, each is compared separately."""
        given = self.flags.get("data.path", [])
        return [given] if isinstance(given, str) else list(given)

    def for_each_text(self) -> list["CompareRequest"]:
        """Return a request for each text."""
        return [replace(self, flags={**self.flags, "data.path": path}) for path in self.paths]

    def _refuse_twice(self) -> None:
        """Check that no text is named twice. Raises: UsageError."""
        places = [path if path == streams.STDIN else Path(path).absolute() for path in self.paths]
        for at, path in enumerate(self.paths):
            if places[at] in places[:at]:
                raise UsageError(f"the text {path} is named twice", "name each text once")

    def _refuse_text(self) -> None:
        """Refuse a text for a task. Raises: UsageError."""
        makes = f"--task {self.task} makes its own text"
        if "data.path" in self.flags:
            raise UsageError(f"{makes}, so --data cannot be given", "leave out --task or --data")
        for change in self.changes:
            key = change.partition("=")[0].strip()
            if key in ("data.path", "data.records"):
                raise UsageError(f"{makes}: {key} is set by it", f"leave out --set {key}")

    def command(self, paper: str = "") -> str:
        """Return the command line that repeats the comparison, or the study of a paper."""
        words = ["charlm", "compare", *self.cells]
        words += ["--paper", paper] if paper else ["--config", self.preset]
        words += ["--task", self.task] if self.task else []
        for path in self.paths:
            words += ["--data", path]
        for change in self.changes:
            words += ["--set", change]
        words += [] if paper else ["--match", self.match]
        words += ["--seeds", str(self.seeds)] if self.seeds is not None else []
        words += ["--tune"] if self.tune else []
        words += ["--search", str(self.search)] if self.search is not None else []
        for option, key in (("--device", "train.device"), ("--threads", "train.threads")):
            if key in self.flags:
                words += [option, str(self.flags[key])]
        return shlex.join(words)
