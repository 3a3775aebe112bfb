"""A request for a comparison. Importing this does not import torch."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Match = Literal["parameters", "hidden", "time", "operations"]
MATCHES: tuple[Match, ...] = ("parameters", "hidden", "time", "operations")
SEEDS = 5
"""Default number of runs of each cell: fewer show too little of the spread."""


@dataclass(frozen=True)
class CompareRequest:
    """The cells of a comparison and its terms.

    cells: see `parse_cell`. config: a preset or a `.toml` file. changes, flags: as for
    `loading.load`. seeds: runs of each cell; None takes 5, or the number of a paper's study. tune:
    True searches for each cell's learning rate and dropout first.
    """

    cells: Sequence[str]
    config: str = "compare"
    changes: Sequence[str] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)
    match: Match = "parameters"
    seeds: int | None = None
    tune: bool = False

    def command(self, paper: str = "") -> str:
        """Return the command line that repeats the comparison, or the study of a paper."""
        words = ["charlm", "compare", *self.cells]
        words += ["--paper", paper] if paper else ["--config", self.config]
        paths = self.flags.get("data.path", [])
        for path in [paths] if isinstance(paths, str) else paths:
            words += ["--data", path]
        for change in self.changes:
            words += ["--set", change]
        words += [] if paper else ["--match", self.match]
        words += ["--seeds", str(self.seeds)] if self.seeds is not None else []
        words += ["--tune"] if self.tune else []
        for option, key in (("--device", "train.device"), ("--threads", "train.threads")):
            if key in self.flags:
                words += [option, str(self.flags[key])]
        return shlex.join(words)
