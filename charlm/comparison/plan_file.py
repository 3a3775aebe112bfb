"""The plan of a comparison as a file, written and hashed before the first run.

`plan.json` has all that determines the runs, and the statistics that will be computed. A copy,
`.plan.json`, shows whether it was changed since. More cells or seeds amend the plan; it then names
the SHA-256 of those before it.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from charlm.common.errors import UsageError
from charlm.common.files import json_bytes, read_regular, replace
from charlm.common.version import __version__
from charlm.comparison import answering, expected_best
from charlm.comparison.cells import Entry
from charlm.comparison.plan import Plan, operations, parameters, planned_runs
from charlm.comparison.reuse import WITHOUT_EFFECT
from charlm.comparison.searches import chosen_search
from charlm.comparison.statistics import ASSUMED_DEVIATION, METHODS, smallest_difference

FILE, COPY = "plan.json", ".plan.json"
BEFORE, AFTER = "before the first run", "after runs of an earlier version had begun"
NOT_COMPARED = {"charlm", "written", "amends", "seeds", "runs", "plans", "statistics"}
"""Keys that a later call may have otherwise: with other versions, seeds or cells."""
AMENDING = ("seeds", "plans")
"""Keys of which another value amends the plan, as more or fewer cells or texts do."""
ABSENT = object()


class _PlannedText(BaseModel, strict=True):
    fingerprint: str


class _KeptPlan(BaseModel, strict=True):
    """The keys of an earlier plan that are read one by one."""

    charlm: str
    written: str
    amends: list[str]
    seeds: list[int]
    cells: dict[str, Any]
    statistics: list[str]
    texts: dict[str, _PlannedText] = {}
    smallest_difference: dict[str, Any] | None = None


@dataclass(frozen=True)
class PlanFile:
    """A plan that has been written. written: `BEFORE` or `AFTER`. amends: SHA-256 of each plan
    before it, the oldest first. smallest_difference: as expected; None in a plan without it."""

    sha256: str
    written: str
    amends: tuple[str, ...]
    smallest_difference: Mapping[str, Any] | None

    def as_json(self) -> dict[str, Any]:
        """Return the part of compare.json."""
        return {
            "path": FILE,
            "sha256": self.sha256,
            "written": self.written,
            "amends": list(self.amends),
            "smallest_difference": self.smallest_difference,
        }


def agreed_plan(plan: Plan, folder: Path, check: Callable[[], None]) -> PlanFile:
    """Return the plan with which the comparison in `folder` was begun; write it if it is new.

    check: raises if the runs in `folder` are others; called before a plan is written.

    Raises: UsageError if plan.json was changed, or is for other terms.
    """
    has_begun = any(folder.glob("runs/*")) or any(folder.glob("tune/*"))
    return agreed(_content(plan), folder, check, has_begun=has_begun)


def agreed(
    fresh: dict[str, Any], folder: Path, check: Callable[[], object], *, has_begun: bool
) -> PlanFile:
    """Write a plan if it is new, or amend the one in `folder`; return the plan.

    fresh: its content. check: as for `agreed_plan`. has_begun: True if runs were made before it.

    Raises: UsageError if plan.json was changed, or is for other terms.
    """
    before = kept(folder)
    if before is not None:
        _refuse_other_terms(folder, before, fresh)
        if _is_same(before, fresh):
            return _write(folder, before)
        fresh |= {"amends": [*before["amends"], _sha256(before)], "written": before["written"]}
    elif has_begun:
        fresh["written"] = AFTER
    check()
    return _write(folder, fresh)


def _is_same(before: Mapping[str, Any], fresh: Mapping[str, Any]) -> bool:
    """Return True if neither seeds nor cells nor texts were added or left out."""
    return all(before.get(key) == fresh.get(key) for key in AMENDING) and all(
        {*before.get(key, ())} == {*fresh.get(key, ())} for key in ("cells", "texts")
    )


def _write(folder: Path, content: Mapping[str, Any]) -> PlanFile:
    """Write a plan and its copy; describe it. The bytes are the same for the same content."""
    for name in (COPY, FILE):
        replace(folder / name, json_bytes(content))
    expected = content.get("smallest_difference")
    return PlanFile(_sha256(content), content["written"], tuple(content["amends"]), expected)


def _content(plan: Plan) -> dict[str, Any]:
    """Return the content of plan.json."""
    size, corpus, search = len(plan.corpus.vocabulary), plan.corpus, chosen_search(plan)
    runs = planned_runs(plan, Path("runs"), dict.fromkeys((e.label for e in plan.entries), 0.0))
    return {
        "charlm": __version__,
        "written": BEFORE,
        "amends": [],
        "match": plan.match,
        "budget": plan.budget or None,
        "seeds": list(plan.seeds),
        "cells": {entry.label: _settings(entry) for entry in plan.entries},
        "parameters": {e.label: parameters(e.config.model, size) for e in plan.entries},
        "operations": {e.label: operations(e.config.model, size) for e in plan.entries},
        "text": {
            "fingerprint": corpus.fingerprint,
            "characters": {name: split.characters for name, split in corpus.splits.items()},
            "vocabulary_size": size,
        },
        "search": search.terms(plan) if search else None,
        "runs": [str(run.path.as_posix()) for run in runs],
        "statistics": _statistics(plan),
        "smallest_difference": {  # with 80 % power, over seeds alone
            "bits_per_character": smallest_difference(len(plan.seeds), ASSUMED_DEVIATION),
            "basis": f"assumed: a standard deviation of {ASSUMED_DEVIATION:g} over the seeds",
        },
    }


def _statistics(plan: Plan) -> list[str]:
    """Return the statistics that will be computed, in words."""
    of_search = expected_best.METHODS if plan.search else []
    return [*METHODS, *of_search, *(answering.methods(plan.task) if plan.task else [])]


def _settings(entry: Entry) -> dict[str, Any]:
    """Return the configuration of a cell's runs, by dotted key, but for the seed and keys without
    effect."""
    left_out = {"train.seed", *WITHOUT_EFFECT}
    return {
        dotted: value
        for name, section in entry.config.model_dump(mode="json").items()
        for key, value in section.items()
        if (dotted := f"{name}.{key}") not in left_out
    }


def kept(folder: Path) -> dict[str, Any] | None:
    """Read the plan of a folder; None without one. Raises: UsageError if it was changed."""
    path = folder / FILE
    there, copy = _read(path), _read(folder / COPY)
    if there is ABSENT and copy is ABSENT:
        return None
    original: dict[str, Any] = there if copy is ABSENT else copy
    try:
        _KeptPlan.model_validate(original)
    except ValidationError:
        raise UsageError(f"{path} is no plan of a comparison", "give another --out") from None
    for key, then, now in _changes(original, there):
        raise UsageError(
            f"{path} was changed after it was written: {_change(key, then, now)}",
            f"restore it (cp {folder / COPY} {path}), or give another --out for another plan",
        )
    return original


def _read(path: Path) -> Any:
    """Read JSON; `ABSENT` without a file, None if it is damaged."""
    try:
        return json.loads(read_regular(path))
    except FileNotFoundError:
        return ABSENT
    except (OSError, ValueError, RecursionError):
        return None


def _refuse_other_terms(folder: Path, before: Mapping[str, Any], fresh: Mapping[str, Any]) -> None:
    """Refuse terms other than the plan's. Raises: UsageError."""
    left_out = NOT_COMPARED | {"smallest_difference"}  # which depends on the seeds
    then, now = ({k: v for k, v in one.items() if k not in left_out} for one in (before, fresh))
    for key, was, wanted in _changes(then, now):
        if ABSENT in (was, wanted):
            continue  # a cell more or fewer, or a key of another version
        if key == "text.fingerprint":
            what = "it was planned for, and trained on another text"
        else:
            what = f"its plan says {_change(key, was, wanted)}"
        raise UsageError(
            f"{folder} cannot be reused: {what}",
            "give another --out, or the settings that this comparison was begun with",
        )


def _changes(one: Any, other: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the keys whose values differ, with both; `ABSENT` for a key that one lacks."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in dict.fromkeys((*one, *other)):
            inner = f"{key}.{name}" if key else name
            yield from _changes(one.get(name, ABSENT), other.get(name, ABSENT), inner)
    elif type(one) is not type(other) or one != other:
        yield key, one, other


def _change(key: str, then: Any, now: Any) -> str:
    was, is_now = ("absent" if one is ABSENT else json.dumps(one) for one in (then, now))
    return f"{key} was {was}, now {is_now}" if key else "it is no JSON, or missing"


def _sha256(content: Any) -> str:
    return hashlib.sha256(json_bytes(content)).hexdigest()
