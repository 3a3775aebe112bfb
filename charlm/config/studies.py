"""Studies of papers: the terms of several comparisons, and the published figures."""

import itertools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from charlm.common.errors import ConfigError
from charlm.common.wording import suggestion
from charlm.config import presets
from charlm.config.messages import sentence
from charlm.config.schema import Section, between

Values = dict[str, Any]
Text = Annotated[str, Field(min_length=1, max_length=500)]


class Published(Section):
    """A figure of the paper."""

    what: Text
    value: Annotated[float, between(0, 100)]
    unit: Literal["nats", "bits per parameter"]


class Study(Section):
    """The study of `charlm compare --paper NAME`: the cells, at every number of parameters and
    every combination of the varied values.

    finding: the paper's result. config: the preset with the other terms. settings: values in place
    of the preset's, vary: lists of values, both by dotted key. search: random trials of each cell
    before its seeds; None without a search. memorize: bits of random text per
    parameter, in a study of memorization; 0 in a study of prediction.
    """

    title: Text
    source: Text
    finding: Text
    config: str = "compare"
    cells: list[str] = Field(min_length=1)
    parameters: list[Annotated[int, between(1, 10**10)]] = Field(min_length=1)
    seeds: Annotated[int, between(1, 1000)] = 1
    search: Annotated[int, between(2, 100)] | None = None
    memorize: Annotated[float, between(0, 100)] = 0.0
    settings: dict[str, Any] = Field(default={})
    vary: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default={})
    published: list[Published] = Field(default=[])


@dataclass(frozen=True)
class Group:
    """One comparison of a study. values: the varied values, by dotted key."""

    parameters: int
    values: Values

    @property
    def name(self) -> str:
        """Its name, as in "50,000 parameters, num_layers 2"."""
        parts = [f"{self.parameters:,} parameters"]
        parts += [f"{key.rpartition('.')[2]} {value}" for key, value in self.values.items()]
        return ", ".join(parts)

    @property
    def folder(self) -> str:
        """Its name as part of a path."""
        parts = [str(self.parameters)]
        parts += [f"{key.rpartition('.')[2]}={value}" for key, value in self.values.items()]
        return "-".join(parts).replace("/", "_")

    def changes(self, study: Study) -> list[str]:
        """List the settings on top of the study's configuration."""
        return [f"{key}={value}" for key, value in {**study.settings, **self.values}.items()]


def groups(study: Study) -> list[Group]:
    """List the comparisons of a study, the smallest networks first."""
    return [
        Group(parameters, dict(zip(study.vary, chosen, strict=True)))
        for parameters in study.parameters
        for chosen in itertools.product(*study.vary.values())
    ]


def study_folder() -> Path:
    """Return `configs/studies/`."""
    return presets.folder() / "studies"


def studies() -> list[str]:
    return sorted(path.stem for path in study_folder().glob("*.toml"))


def read_study(name: str) -> Study:
    """Read a study. Raises: ConfigError for an unknown name."""
    if name not in studies():
        raise ConfigError(
            f"no study is called {name!r}{suggestion(name, studies())}",
            f"the studies are {', '.join(studies())}",
        )
    path = study_folder() / f"{name}.toml"
    try:
        return Study.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (ValidationError, ValueError) as error:
        said = sentence(error) if isinstance(error, ValidationError) else str(error)
        raise ConfigError(f"{path}: {said}", "mend the study there") from None
