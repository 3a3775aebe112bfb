"""Who is compared, and on what terms: cells as the user named them, widths, seeds."""

import difflib
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from charlm.backends.device import resolve_device
from charlm.cells import CELLS
from charlm.config.loading import Draft
from charlm.config.schema import SECTIONS, Config, ModelConfig
from charlm.errors import DataError, UsageError
from charlm.models.recurrent import CharModel
from charlm.text.batches import Lanes
from charlm.text.corpus import Corpus
from charlm.training import setup

Match = Literal["parameters", "hidden", "time"]
MATCHES: tuple[Match, ...] = ("parameters", "hidden", "time")

LONGEST_FOLDER = 80

TOLERANCE = 0.01
"""How far the parameters of a cell may be from those of the LSTM it is matched to."""

# What one cell may have of its own. All else is the same for every cell: the text and its splits,
# the lanes and their order, the evaluation, the number of steps.
OWN = {
    *(f"model.{key}" for key in ModelConfig.model_fields if key != "cell"),
    *("train.learning_rate", "train.final_learning_rate", "train.warmup_steps"),
    *("train.weight_decay", "train.clip_norm", "train.adam_betas", "train.weight_average"),
    *("train.state_reset", "train.precision"),
}


@dataclass(frozen=True)
class Entry:
    """One cell of the comparison.

    label: as the user wrote it. config: complete but for the seed. own: the keys it has of its own.
    """

    label: str
    config: Config
    own: tuple[str, ...]

    @property
    def cell(self) -> str:
        return self.config.model.cell

    @property
    def folder(self) -> str:
        """Its label as part of a file's name."""
        plain = re.sub(r"[^\w.=-]+", "_", self.label)
        if len(plain) <= LONGEST_FOLDER:
            return plain
        return f"{plain[:LONGEST_FOLDER]}-{hashlib.sha256(self.label.encode()).hexdigest()[:8]}"

    def seeded(self, seed: int) -> Config:
        return self.with_train(seed=seed).config

    def with_train(self, **values: object) -> "Entry":
        """The entry with other values in [train]."""
        train = self.config.train.model_copy(update=values)
        return replace(self, config=self.config.model_copy(update={"train": train}))

    def with_width(self, hidden_size: int) -> "Entry":
        model = self.config.model.model_copy(update={"hidden_size": hidden_size})
        return replace(self, config=self.config.model_copy(update={"model": model}))


@dataclass(frozen=True)
class Plan:
    """A comparison that can be carried out.

    entries: with the widths they are compared at. same_width: the entries at the width of the
    configuration (their own, where they have one), for what the lecture says of equal widths.
    """

    name: str
    match: Match
    seeds: tuple[int, ...]
    tune: bool
    corpus: Corpus
    entries: tuple[Entry, ...]
    same_width: tuple[Entry, ...]


def plan(draft: Draft, cells: Sequence[str], *, match: str, seeds: int, tune: bool) -> Plan:
    """Find and encode the text, read the cells, choose the widths.

    cells: names, each with settings of its own behind colons, as in "gru:reset_gate=before".

    Raises: UsageError (cells, match, a width that cannot be matched), ConfigError, DataError.
    """
    chosen = next((name for name in MATCHES if name == match), None)
    if chosen is None:
        raise UsageError(f"--match {match} is unknown", f"use one of {', '.join(MATCHES)}")
    specs = [_read(cell) for cell in _different(cells)]
    measure = setup.plan(_for_cell(draft, draft.name, "lstm", []))
    if not len(measure.corpus.splits["validation"]):
        raise DataError(
            "this configuration holds no text out, so nothing can be compared on new text",
            "give a split with a validation part: --set data.split=[0.9,0.1,0.0]",
        )
    train, split = measure.config.train, measure.corpus.train
    resolve_device(train.device)  # refused now, not once there is a folder
    Lanes(measure.corpus.symbols[: split.stop], train.batch_size, train.sequence_length)
    entries = tuple(_entry(draft, *spec) for spec in specs)
    for at, entry in enumerate(entries):
        for other in entries[:at]:
            if entry.config == other.config or entry.folder == other.folder:
                raise UsageError(
                    f"{other.label} and {entry.label} are the same", "name every cell once"
                )
    matched = entries
    if chosen != "hidden":
        size = len(measure.corpus.vocabulary)
        target = parameters(measure.config.model, size)
        matched = tuple(_matched(entry, target, size, chosen) for entry in entries)
    first = measure.config.train.seed
    if first + seeds > 2**32:
        raise UsageError(f"no {seeds} seeds from {first} on", "use a smaller train.seed")
    chosen_seeds = tuple(range(first, first + seeds))
    return Plan(draft.name, chosen, chosen_seeds, tune, measure.corpus, matched, entries)


def parameters(model: ModelConfig, vocabulary_size: int) -> int:
    """How many weights and biases a model has; none of them is allocated."""
    with torch.device("meta"):
        return CharModel(model, vocabulary_size).parameter_count()


def recurrent_parameters(model: ModelConfig, vocabulary_size: int) -> int:
    """How many of them are in the cells."""
    with torch.device("meta"):
        return CharModel(model, vocabulary_size).recurrent_parameters()


def matched_width(model: ModelConfig, vocabulary_size: int, target: int) -> int:
    """The width at which `model` has as many parameters as `target`, within `TOLERANCE`.

    Of several such widths, the one that the highest power of two divides: kernels are at their
    best there.

    Raises: UsageError where there is none.
    """

    def count(width: int) -> int:
        return parameters(model.model_copy(update={"hidden_size": width}), vocabulary_size)

    low, high = 0, 1  # count(low) < target <= count(high)
    while count(high) < target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < target else (low, middle)
    near = range(max(1, low - low // 50), high + high // 50 + 1)
    fitting = [width for width in near if abs(count(width) - target) <= TOLERANCE * target]
    if not fitting:
        found = ", ".join(f"{count(width):,} at {width}" for width in (low, high) if width)
        raise UsageError(
            f"no width gives {model.cell} within {100 * TOLERANCE:g} % of {target:,} parameters: "
            f"{found}",
            "raise model.hidden_size, give the cell a width of its own with --match time "
            "(as in rnn:hidden_size=64), or compare at equal widths: --match hidden",
        )
    return max(fitting, key=lambda width: (width & -width, -abs(count(width) - target)))


def _matched(entry: Entry, target: int, vocabulary_size: int, match: Match) -> Entry:
    if "model.hidden_size" in entry.own:
        if match == "time":
            return entry
        raise UsageError(
            f"{entry.label} has a width of its own, which --match parameters would change",
            "leave it out, or use --match hidden",
        )
    return entry.with_width(matched_width(entry.config.model, vocabulary_size, target))


def _different(cells: Iterable[str]) -> list[str]:
    listed = list(cells)
    if not listed:
        raise UsageError("no cell is given to compare", "charlm compare rnn lstm gru")
    for at, cell in enumerate(listed):
        if cell in listed[:at]:
            raise UsageError(f"{cell} is given twice", "name every cell once; see --seeds")
    return listed


def _read(spec: str) -> tuple[str, str, list[str]]:
    """A cell as the user wrote it: label, name, settings with their sections."""
    name, *settings = spec.split(":")
    if name not in CELLS:
        near = difflib.get_close_matches(name.lower(), CELLS, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(
            f"there is no cell {name!r}{hint}",
            f"the cells are {', '.join(CELLS)}, each with settings of its own if need be: "
            "gru:reset_gate=before",
        )
    return spec, name, [_own(spec, setting) for setting in settings]


def _own(spec: str, setting: str) -> str:
    key, equals, value = setting.partition("=")
    dotted = key if "." in key else f"model.{key}"
    if not equals or not value:
        raise UsageError(
            f"{spec}: {setting!r} is no setting", "write it as in gru:reset_gate=before"
        )
    section, _, name = dotted.partition(".")
    if section in SECTIONS and name in SECTIONS[section].model_fields and dotted not in OWN:
        raise UsageError(
            f"{spec}: {dotted} is the same for every cell of a comparison",
            f"use --set {dotted}={value} for all of them",
        )
    return f"{dotted}={value}"


def _entry(draft: Draft, label: str, cell: str, settings: list[str]) -> Entry:
    config = setup.plan(_for_cell(draft, label, cell, settings)).config
    return Entry(label, config, tuple(setting.partition("=")[0] for setting in settings))


def _for_cell(draft: Draft, label: str, cell: str, settings: Sequence[str]) -> Draft:
    """The draft with another cell; what is an option of other cells only is at its default."""
    foreign = {key for other in CELLS.values() for key in other.options} - {*CELLS[cell].options}
    defaults = [f"model.{key}={ModelConfig.model_fields[key].default}" for key in sorted(foreign)]
    return draft.and_set(label, [f"model.cell={cell}", *defaults, *settings])
