"""The cells of a comparison, as named by the user, each with its configuration.

Importing this does not import torch, so that mistakes are reported quickly.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from charlm.common.errors import UsageError
from charlm.common.files import name_of
from charlm.comparison.request import Match
from charlm.config.cell_spec import CellSpec, foreign_options, parse_cell
from charlm.config.layers import ConfigLayers, Rank, settings_layer
from charlm.config.schema import SECTIONS, Config, Mark, ModelConfig, marked
from charlm.text.files import sources
from charlm.training.request import refuse_unusable_runs


@dataclass(frozen=True)
class Entry:
    """One cell of the comparison.

    label: as the user wrote it. config: complete except for the seed. own: keys set for it alone.
    """

    label: str
    config: Config
    own: tuple[str, ...]

    @property
    def cell(self) -> str:
        return self.config.model.cell

    @property
    def folder(self) -> str:
        """Its label, made safe for a file name."""
        return name_of(self.label)

    def seeded(self, seed: int) -> Config:
        return self.with_train(seed=seed).config

    def with_train(self, **values: object) -> "Entry":
        """Return the entry with other values in [train]."""
        train = self.config.train.model_copy(update=values)
        return replace(self, config=self.config.model_copy(update={"train": train}))

    def with_model(self, **values: object) -> "Entry":
        """Return the entry with other values in [model]."""
        model = self.config.model.model_copy(update=values)
        return replace(self, config=self.config.model_copy(update={"model": model}))


def read_cells(cells: Sequence[str], match: Match) -> list[CellSpec]:
    """Parse the cells to compare, by `parse_cell`.

    Raises: UsageError for none, for one twice, or for one with a key that all cells share.
    """
    specs = [_checked(parse_cell(cell)) for cell in _different(cells)]
    for spec in specs:
        if match in ("parameters", "operations") and "model.hidden_size" in spec.keys:
            raise UsageError(
                f"{spec.label} has a width of its own, which --match {match} would change",
                "leave it out, or use --match hidden",
            )
    return specs


def refuse(layers: ConfigLayers, cells: Sequence[str], match: Match, seeds: int) -> None:
    """Check everything about a comparison that is known before its text is read.

    Raises: UsageError, ConfigError, DataError.
    """
    entries = different_entries(
        Entry(spec.label, for_cell(layers, spec).resolve().config, spec.keys)
        for spec in read_cells(cells, match)
    )
    train = entries[0].config.train
    seeds_from(train.seed, seeds)
    sources.refuse_missing(entries[0].config.data)
    refuse_unusable_runs(train)


def seeds_from(first: int, count: int) -> tuple[int, ...]:
    """Return the seeds of each cell's runs. Raises: UsageError if they are too large."""
    if count < 1:
        raise UsageError(f"{count} is no number of runs", "give at least one seed")
    if first + count > 2**32:
        raise UsageError(f"no {count} seeds from {first} on", "use a smaller train.seed")
    return tuple(range(first, first + count))


def different_entries(made: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the entries. Raises: UsageError if two are the same."""
    entries = tuple(made)
    for at, entry in enumerate(entries):
        for other in entries[:at]:
            if entry.config == other.config or entry.folder == other.folder:
                raise UsageError(
                    f"{other.label} and {entry.label} are the same", "name every cell once"
                )
    return entries


def _different(cells: Iterable[str]) -> list[str]:
    listed = list(cells)
    if not listed:
        raise UsageError("no cell is given to compare", "charlm compare rnn lstm gru")
    for at, cell in enumerate(listed):
        if cell in listed[:at]:
            raise UsageError(f"{cell} is given twice", "name every cell once; see --seeds")
    return listed


def _checked(spec: CellSpec) -> CellSpec:
    """Refuse keys that all cells of a comparison share. Raises: UsageError."""
    own = marked(Mark.PER_CELL)
    for setting in spec.settings:
        dotted = setting.partition("=")[0]
        section, _, name = dotted.partition(".")
        if section in SECTIONS and name in SECTIONS[section].model_fields and dotted not in own:
            raise UsageError(
                f"{spec.label}: {dotted} is the same for every cell of a comparison",
                f"use --set {setting} for all of them",
            )
    return spec


def for_cell(layers: ConfigLayers, spec: CellSpec) -> ConfigLayers:
    """Set another cell; options of other cells are reset to their defaults."""
    fields = ModelConfig.model_fields
    defaults = [f"model.{key}={fields[key].default}" for key in foreign_options(spec.cell)]
    always = ["train.sample_every=0"]  # a sample of every run is drawn at the end
    settings = [f"model.cell={spec.cell}", *defaults, *always, *spec.settings]
    return layers.with_layers([settings_layer(spec.label, settings, Rank.CELL)])
