"""Several texts in one comparison: their names, and the plan of the whole.

Each text is compared separately, in a folder named after it, by a plan of its own. `plan.json` of
the whole has the SHA-256 of these plans and the statistics over texts.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from charlm.common.errors import UsageError
from charlm.common.outputs import COMPARISON, MARKER, SERIES
from charlm.common.version import __version__
from charlm.comparison.plan_file import BEFORE, FILE, PlanFile, agreed, kept
from charlm.comparison.series import Part, Series
from charlm.comparison.statistics import ENOUGH
from charlm.runs.named import LONGEST_NAME
from charlm.text.files import streams

FEWEST_SIGNS = 6
"""Least texts for a sign test: with five, even all on one side have p = 0.06."""
METHODS = [
    "on each text, the statistics of its own plan",
    "difference of each pair of cells over texts: the mean of the differences on each text, every "
    "text counting the same; 95 % interval by Student's t over the texts, none with fewer than "
    f"{ENOUGH}",
    "ratio of bits per character over texts: geometric mean, 95 % interval by its logarithm; a "
    "difference counts as shown by the interval in bits, not by this one",
    f"sign test, two-sided, from {FEWEST_SIGNS} texts on which the cells differ",
]
"""The statistics over texts, as stated in the plan."""
CANNOT = "give another --out, or the texts that this comparison was begun with"


def names_of(paths: Sequence[str]) -> list[str]:
    """Return a name for each text that is safe as a folder's, none the same in any case of letters.

    Names that would be the same get the extension, then the parent folder, then a number.
    """
    names = [_candidates(path)[0] for path in paths]
    for level in (1, 2):
        names = [
            _candidates(path)[level] if _is_taken(name, names) else name
            for path, name in zip(paths, names, strict=True)
        ]
    result: list[str] = []
    for name in names:
        numbered = (name, *(f"{name}-{number}" for number in range(2, len(paths) + 2)))
        result.append(next(one for one in numbered if not _is_taken(one, [one, *result])))
    return result


def _candidates(path: str) -> tuple[str, str, str]:
    """Return the names of a text, the shortest first."""
    if streams.is_numbered(path):
        return "stdin", "stdin", "stdin"
    place = Path(os.path.normpath(Path(path).absolute()))
    return _safe(place.stem), _safe(place.name), _safe(f"{place.parent.name}-{place.name}")


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)[:LONGEST_NAME].strip("._-") or "text"


def _is_taken(name: str, names: Sequence[str]) -> bool:
    """Return True if a name occurs twice, or is one of a comparison's own."""
    lower = [one.casefold() for one in names]
    return lower.count(name.casefold()) > 1 or name.casefold() in COMPARISON | SERIES


def series_of_texts(parts: Sequence[Part], path: Path) -> Series:
    """Return the comparisons of several texts, in a folder.

    Raises: UsageError if `path` holds something else.
    """
    parts = _as_planned(parts, path)
    _refuse_other(parts, path)
    return Series(parts, path, "text", agree=lambda files: _agreed(parts, files, path))


def refuse_same(parts: Sequence[Part]) -> None:
    """Check that all texts differ. Raises: UsageError."""
    seen: dict[str, str] = {}
    for part in parts:
        before = seen.setdefault(part.plan.corpus.fingerprint, part.name)
        if before != part.name:
            raise UsageError(
                f"the texts {before} and {part.name} have the same content", "name each text once"
            )


def _as_planned(parts: Sequence[Part], path: Path) -> Sequence[Part]:
    """Return the parts with the names that their texts have in the plan of a folder, if any, since
    a further text may have lengthened a name. Raises: UsageError if the plan was changed."""
    texts = (kept(path) or {}).get("texts", {})
    names = {planned["fingerprint"]: name for name, planned in texts.items()}
    named = [
        replace(part, name=name, folder=name)
        for part in parts
        for name in [names.get(part.plan.corpus.fingerprint, part.name)]
    ]
    return named if len({part.folder for part in named}) == len(parts) else parts


def _refuse_other(parts: Sequence[Part], path: Path) -> None:
    """Check that a folder is new, or has these texts or fewer, before anything is measured.

    Raises: UsageError.
    """
    names = {entry.name: entry for entry in path.iterdir()} if path.is_dir() else {}
    if names and MARKER not in names:
        raise UsageError(
            f"{path} exists and is no comparison of several texts",
            'give another --out; one text of several files is --set data.path=["a.txt","b.txt"]',
        )
    texts = (kept(path) or {}).get("texts", {})
    fingerprints = {part.folder: part.plan.corpus.fingerprint for part in parts}
    for name, planned in texts.items():
        if name not in fingerprints:
            raise UsageError(f"{path} was planned with the text {name}, which is missing", CANNOT)
        if planned["fingerprint"] != fingerprints[name]:
            raise UsageError(
                f"{path} cannot be reused: the text {name} is not the one that it was planned for",
                CANNOT,
            )
    for name, entry in names.items():
        if name not in fingerprints and any(entry.glob("runs/*")):
            raise UsageError(f"{path} holds {name}, which is none of these texts", CANNOT)


def _agreed(parts: Sequence[Part], files: Sequence[PlanFile], path: Path) -> PlanFile:
    """Write the plan of the whole, or amend it. Raises: UsageError."""
    content = _content(parts, files)
    has_begun = any(
        any((path / part.folder).glob(f"{kind}/*")) for part in parts for kind in ("runs", "tune")
    )
    no_check: Callable[[], None] = lambda: None  # noqa: E731 (each comparison has checked its runs)
    return agreed(content, path, no_check, has_begun=has_begun)


def _content(parts: Sequence[Part], files: Sequence[PlanFile]) -> dict[str, Any]:
    """Return the content of plan.json of the whole."""
    first = parts[0].plan
    return {
        "charlm": __version__,
        "written": BEFORE,
        "amends": [],
        "match": first.match,
        "seeds": list(first.seeds),
        "cells": {
            entry.label: {
                "hidden_size": {
                    part.folder: part.plan.entries[at].config.model.hidden_size for part in parts
                }
            }
            for at, entry in enumerate(first.entries)
        },
        "texts": {
            part.folder: {
                "fingerprint": part.plan.corpus.fingerprint,
                "characters": {
                    name: split.characters for name, split in part.plan.corpus.splits.items()
                },
                "vocabulary_size": len(part.plan.corpus.vocabulary),
            }
            for part in parts
        },
        "plans": {
            f"{part.folder}/{FILE}": file.sha256 for part, file in zip(parts, files, strict=True)
        },
        "statistics": METHODS,
    }
