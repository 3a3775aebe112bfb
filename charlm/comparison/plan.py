"""The plan of a comparison: cells, widths, seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from charlm.common.errors import DataError, UsageError
from charlm.comparison.cells import (
    Entry,
    different_entries,
    for_cell,
    read_cells,
    seeds_from,
)
from charlm.comparison.request import MATCHES, Match
from charlm.config.cell_spec import CellSpec
from charlm.config.layers import ConfigLayers
from charlm.config.schema import Config, ModelConfig
from charlm.models.recurrent import CharModel
from charlm.text.batches import BatchStream
from charlm.text.corpus import Corpus
from charlm.text.files.tasks import Task, learned
from charlm.training import fitting
from charlm.training.prepare import prepare_run
from charlm.training.request import RunRequest, request_run

MEASURE = "lstm"
"""The cell whose parameters, at the configuration's width, the others are matched to."""
TOLERANCE = 0.01
"""Relative tolerance when matching the LSTM's parameter count."""
COARSE = 0.02
"""Relative tolerance when matching `budget`: one unit of a small network is over 1 %."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of the comparison. Units: seconds_a_step as measured beforehand."""

    entry: Entry
    config: Config
    path: Path
    seconds_a_step: float
    note: str = ""

    @property
    def name(self) -> str:
        """Its name in messages."""
        note = f", {self.note}" if self.note else ""
        return f"{self.entry.label}, seed {self.config.train.seed}{note}"

    @property
    def steps(self) -> int:
        """Number of its steps."""
        return self.config.train.steps

    @property
    def seconds(self) -> float:
        """Expected seconds of the whole run."""
        seconds, budget = self.seconds_a_step * self.steps, self.config.train.seconds
        return min(seconds, budget) if budget else seconds


@dataclass(frozen=True)
class Plan:
    """A comparison that is ready to run.

    entries: at the widths that are compared. same_width: the entries at the configuration's width
    (or their own, if set), for the lecture's claims about equal widths. budget: see `plan`.
    search: trials of each cell's random search; 0 without one.
    """

    name: str
    match: Match
    seeds: tuple[int, ...]
    tune: bool
    corpus: Corpus
    entries: tuple[Entry, ...]
    same_width: tuple[Entry, ...]
    budget: int = 0
    search: int = 0

    @property
    def searches(self) -> bool:
        """True if every cell searches for its values first."""
        return self.tune or self.search > 0

    @property
    def task(self) -> Task | None:
        """The task that the text is made of, if any."""
        return learned(self.entries[0].config.data)


@dataclass(frozen=True)
class Requested:
    """The configurations of a comparison, with absolute names of files.

    run: with the cell whose parameters the others are matched to. layers: without a cell of the
    comparison.
    """

    run: RunRequest
    layers: ConfigLayers


def request_comparison(layers: ConfigLayers) -> Requested:
    """Make the names in a configuration absolute. Raises: as `request_run`."""
    run = request_run(for_cell(layers, CellSpec(layers.name, MEASURE, ())))
    return Requested(run, run.complete(layers))


def plan(
    requested: Requested,
    cells: Sequence[str],
    *,
    match: str,
    seeds: int,
    tune: bool,
    budget: int = 0,
) -> Plan:
    """Find and encode the text, parse the cells, choose the widths.

    requested: see `request_comparison`. cells: see `parse_cell`. budget: the parameters of every
    cell; 0 takes those of the configuration's LSTM.

    Raises: UsageError (cells, match, a width that cannot be matched), ConfigError, DataError.
    """
    chosen = next((name for name in MATCHES if name == match), None)
    if chosen is None:
        raise UsageError(f"--match {match} is unknown", f"use one of {', '.join(MATCHES)}")
    specs = read_cells(cells, chosen)
    prepared = prepare_run(requested.run)
    corpus = prepared.corpus
    if not len(corpus.splits["validation"]):
        if prepared.origins.get("data.split") == fitting.ORIGIN:
            raise DataError(
                "the text is too short to hold some of it out and compare on that",
                "use a longer text, or hold more out: --set data.split=[0.7,0.3,0.0]",
            )
        raise DataError(
            "this configuration holds no text out, so nothing can be compared on new text",
            "give a split with a validation part: --set data.split=[0.9,0.1,0.0]",
        )
    train, size = prepared.config.train, len(corpus.vocabulary)
    BatchStream(corpus.symbols[: corpus.train.stop], size, train.lanes, train.sequence_length)
    measure = prepared.config.model
    entries = different_entries(
        Entry(spec.label, prepared.config_for(for_cell(requested.layers, spec)), spec.keys)
        for spec in specs
    )
    if budget:
        width = matched_width(measure, size, budget, COARSE)
        entries = tuple(entry.with_model(hidden_size=width) for entry in entries)
    matched = entries
    if chosen != "hidden":
        count = operations if chosen == "operations" else parameters
        target = budget or count(measure, size)
        tolerance = COARSE if budget else TOLERANCE
        matched = tuple(_matched(entry, target, size, tolerance, count) for entry in entries)
    chosen_seeds = seeds_from(train.seed, seeds)
    return Plan(prepared.name, chosen, chosen_seeds, tune, corpus, matched, entries, budget)


def parameters(model: ModelConfig, vocabulary_size: int) -> int:
    """Count the weights and biases of a model without allocating it."""
    with torch.device("meta"):
        return CharModel(model, vocabulary_size).parameter_count()


def operations(model: ModelConfig, vocabulary_size: int) -> int:
    """Count the multiply-adds of a model's matrix products for a symbol, forward, without
    allocating it. Element-wise operations are left out."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        made = CharModel(model, vocabulary_size)
        made(torch.zeros(1, 1, dtype=torch.int64), made.initial_states(1))
    return int(counter.get_total_flops()) // 2


Count = Callable[[ModelConfig, int], int]
"""`parameters` or `operations`."""


def recurrent_parameters(model: ModelConfig, vocabulary_size: int) -> int:
    """Count the weights and biases of a model's cells."""
    with torch.device("meta"):
        return CharModel(model, vocabulary_size).recurrent_parameters()


def matched_width(
    model: ModelConfig,
    vocabulary_size: int,
    target: int,
    tolerance: float = TOLERANCE,
    count_of: Count = parameters,
) -> int:
    """Return the width at which `model` has `target` parameters (or operations), within
    `TOLERANCE`, or else within `tolerance`.

    Of several such widths, the one divisible by the highest power of two: kernels are fastest
    there.

    Raises: UsageError if there is none.
    """

    def count(width: int) -> int:
        return count_of(model.model_copy(update={"hidden_size": width}), vocabulary_size)

    low, high = 0, 1  # count(low) < target <= count(high)
    while count(high) < target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < target else (low, middle)
    near = range(max(1, low - low // 50), high + high // 50 + 1)
    apart = {width: abs(count(width) - target) / target for width in near}
    for allowed in (TOLERANCE, tolerance):
        if fitting := [width for width in near if apart[width] <= allowed]:
            break
    else:
        unit = "multiply-adds" if count_of is operations else "parameters"
        found = ", ".join(f"{count(width):,} at {width}" for width in (low, high) if width)
        raise UsageError(
            f"no width gives {model.cell} within {100 * tolerance:g} % of {target:,} {unit}: "
            f"{found}",
            "raise model.hidden_size, give the cell a width of its own with --match time "
            "(as in rnn:hidden_size=64), or compare at equal widths: --match hidden",
        )
    return max(fitting, key=lambda width: (width & -width, -apart[width]))


def _matched(
    entry: Entry, target: int, vocabulary_size: int, tolerance: float, count: Count
) -> Entry:
    if "model.hidden_size" in entry.own:  # with --match time, or `read_cells` has refused it
        return entry
    return entry.with_model(
        hidden_size=matched_width(entry.config.model, vocabulary_size, target, tolerance, count)
    )


def planned_runs(plan: Plan, folder: Path, seconds_a_step: Mapping[str, float]) -> list[PlannedRun]:
    """List the runs seed by seed, with every cell once per seed; each seed begins with another
    cell, so that neither drift of the machine nor the order favours one.

    seconds_a_step: by label.
    """
    result = []
    for at, seed in enumerate(plan.seeds):
        turn = at % len(plan.entries)
        for entry in (*plan.entries[turn:], *plan.entries[:turn]):
            path = folder / f"{entry.folder}-seed{seed}"
            result.append(PlannedRun(entry, entry.seeded(seed), path, seconds_a_step[entry.label]))
    return result
