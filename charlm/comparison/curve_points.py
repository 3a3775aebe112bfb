"""The evaluations of a comparison's runs: enough of them for a learning curve.

A comparison keeps the interval that its first runs were made with, so that it can continue.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from charlm.common.errors import ConfigError
from charlm.comparison.cells import Entry
from charlm.comparison.plan import Plan
from charlm.config import loading
from charlm.runs.directory import RunDirectory

POINTS = 10
"""Fewest evaluations of a run with as many steps: with fewer, a curve is a dot or a line."""
SPARE = 2
"""Additional evaluations under a time budget, which a slow moment may end early."""


def with_points(
    plan: Plan, folder: Path, seconds_a_step: Mapping[str, float], *, earlier: Path
) -> Plan:
    """Return the plan with an evaluation every tenth of the steps, unless it has more.

    If runs in `folder` or `earlier` were made with the configuration's own interval, as by earlier
    versions, all keep that. seconds_a_step: by label.
    """
    entries = []
    for entry in plan.entries:
        train, kept = entry.config.train, _kept_interval(entry, folder, earlier)
        every = _interval(entry, seconds_a_step[entry.label], agreed=plan.match == "time")
        if kept == train.eval_every != every:
            return plan
        if kept is not None and train.seconds and kept < train.eval_every:
            every = kept  # a time budget's depends on the speed as measured then
        patience = -(-train.patience * train.eval_every // every)
        entries.append(entry.with_train(eval_every=every, patience=patience))
    return replace(plan, entries=tuple(entries))


def _interval(entry: Entry, seconds_a_step: float, *, agreed: bool) -> int:
    """Return the steps between evaluations. agreed: True if the steps suit the time budget."""
    train = entry.config.train
    steps, points = train.steps, POINTS
    if train.seconds:
        points += SPARE
        if not agreed:
            steps = min(steps, int(train.seconds / seconds_a_step))
    return min(train.eval_every, max(1, steps // points))


def _kept_interval(entry: Entry, *folders: Path) -> int | None:
    """Return the interval of a run of this cell; None without one that can be read."""
    paths = (path for folder in folders for path in sorted(folder.glob(f"{entry.folder}-*")))
    for path in paths:
        try:
            return loading.from_toml(RunDirectory(path).read_config(), str(path)).train.eval_every
        except (OSError, UnicodeDecodeError, ConfigError):
            continue  # refused or begun again later
    return None
