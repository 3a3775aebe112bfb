"""The arguments of commands that have many. Importing this does not import torch."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from charlm.compare.cells import Match
from charlm.config.layers import ConfigLayers
from charlm.errors import UsageError
from charlm.text.files.streams import is_stream
from charlm.training import request

SEEDS = 5
"""Default number of runs of each cell: fewer show too little of the spread."""
PAGES = "inspect"
"""Default folder, within a run, of the pages of `charlm inspect`."""
VIEWS = ("units", "gradients", "context", "errors", "memorization", "bptt")
"""Options of `charlm inspect` that take no value."""


@dataclass(frozen=True)
class TrainArguments:
    """The arguments of `charlm train`; see `request.choose_layers`."""

    source: str | None
    changes: Sequence[str]
    flags: Mapping[str, Any]

    @cached_property
    def layers(self) -> ConfigLayers:
        """The requested configuration."""
        return request.choose_layers(self.source, self.changes, self.flags)

    @property
    def all_flags(self) -> dict[str, Any]:
        """The flags, including the text if it is the argument."""
        return request.name_text(self.source, self.flags)[1]

    @property
    def begins(self) -> ConfigLayers | None:
        """The run to begin if there is none to resume; None if the arguments name none."""
        named = self.source is not None or "data.path" in self.flags
        return self.layers if named else None

    @property
    def names_config(self) -> bool:
        """True if the argument is a preset or a `.toml` file."""
        return request.name_text(self.source, self.flags)[0] == self.source

    def refuse_stdin(self) -> None:
        """Check that the text can be read by several processes. Raises: UsageError."""
        path = self.flags.get("data.path", self.source) or ""
        for one in [path] if isinstance(path, str) else path:
            if is_stream(one):
                name = "stdin" if one == "-" else one
                raise UsageError(f"several processes cannot read one {name}", "write it to a file")


@dataclass(frozen=True)
class CompareArguments:
    """The arguments of `charlm compare`; see `plan`. seeds: None if left out."""

    cells: Sequence[str]
    config: str
    changes: Sequence[str]
    flags: Mapping[str, Any]
    match: Match
    seeds: int | None
    tune: bool

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


@dataclass(frozen=True)
class ScoreArguments:
    """The arguments of `charlm score`. data: path of the run's text, if it was moved."""

    file: str | None
    split: str | None
    data: Sequence[str]
    encoding: str | None
    window: int
    others: Sequence[str]
    adapt: bool
    per_character: bool
    html: Path | None


@dataclass(frozen=True)
class InspectArguments:
    """The arguments of `charlm inspect`. gates: a text, or None; probe: a file, or None. data: path
    of the run's text, if it was moved."""

    gates: str | None
    probe: Path | None
    units: bool
    gradients: bool
    context: bool
    errors: bool
    memorization: bool
    bptt: bool
    data: Sequence[str]

    def words(self) -> list[str]:
        """Return the options, as on the command line."""
        words = [] if self.gates is None else ["--gates", self.gates]
        words += [] if self.probe is None else ["--probe", str(self.probe)]
        return words + [f"--{name}" for name in VIEWS if getattr(self, name)]
