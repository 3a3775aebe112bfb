"""The result of a paper's study: comparisons at several numbers of parameters and varied values."""

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from charlm.comparison.statistics import ENOUGH
from charlm.comparison.table import spread
from charlm.config.studies import Group, Study

Finished = tuple[Group, dict[str, Any], Mapping[str, Sequence[float]]]
"""A comparison of a study, its result, and the bits memorized by each cell, seed by seed."""


def study_result(name: str, study: Study, finished: Sequence[Finished]) -> dict[str, Any]:
    """Collect the results of the comparisons for study.json.

    finished: each comparison with its result and, if the study measures it, the results of
        `memorized`.

    Units: of `measured`, bits per character on validation (in `nats`, too), lower is better; or
        bits of a random text per parameter, higher is better.
    """
    groups = [
        {
            "name": group.name,
            "parameters": group.parameters,
            "values": group.values,
            "folder": group.folder,
            "ngram": result["baselines"]["ngram"],
            "rows": [_row(row, memorized) for row in result["rows"]],
        }
        for group, result, memorized in finished
    ]
    first = finished[0][1]
    return {
        "study": name,
        "title": study.title,
        "source": study.source,
        "finding": study.finding,
        "unit": "bits per parameter" if study.memorize else "bits per character",
        "published": [one.model_dump() for one in study.published],
        "cells": study.cells,
        "seeds": first["seeds"],
        "text": None if study.memorize else first["text"],
        "groups": groups,
        "sentences": [
            *_between_cells(study, groups),
            *_within_cells(study, groups),
            *_caution(len(first["seeds"])),
        ],
    }


def _row(row: dict[str, Any], memorized: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    copied = ("cell", "hidden_size", "num_layers", "parameters", "learning_rate", "dropout")
    if values := memorized.get(row["cell"]):
        measured = {"measured": spread(values), "nats": None}
    else:
        bits = row["bits_per_character"]
        measured = {"measured": bits, "nats": bits["mean"] * math.log(2)}
    return {**{key: row[key] for key in copied}, **measured}


def _mean(group: dict[str, Any], cell: str) -> float:
    row = next(row for row in group["rows"] if row["cell"] == cell)
    return float(row["measured"]["mean"])


def _between_cells(study: Study, groups: Sequence[dict[str, Any]]) -> list[str]:
    """Describe each pair of cells: how often one is ahead, and by how much on average."""
    sentences, sign = [], -1 if study.memorize else 1
    verb = "remembers more on average" if study.memorize else "predicts better on average"
    unit = "bits per parameter" if study.memorize else "bits per character"
    for one, other in itertools.combinations(study.cells, 2):
        gaps = [sign * (_mean(group, other) - _mean(group, one)) for group in groups]
        first, second = (one, other) if fmean(gaps) >= 0 else (other, one)
        ahead = sum((gap > 0) == (first == one) for gap in gaps if gap)
        sentences.append(
            f"{first} {verb} than {second}, by {abs(fmean(gaps)):.3f} {unit}; "
            f"it is ahead in {ahead} of {len(gaps)} comparisons."
        )
    return sentences


def _caution(seeds: int) -> list[str]:
    """Return a caution if there are too few seeds to distinguish small differences from chance."""
    if seeds >= ENOUGH:
        return []
    count = "One seed each shows" if seeds == 1 else f"{seeds} seeds each show"
    return [f"{count} too little of the spread: small differences mean nothing (use --seeds 5)."]


def _within_cells(study: Study, groups: Sequence[dict[str, Any]]) -> list[str]:
    """Describe for every cell which of the varied values is best, by number of parameters."""
    sentences = []
    for cell in study.cells if study.vary else []:
        places = []
        for parameters in study.parameters:
            own = [group for group in groups if group["parameters"] == parameters]
            best = (max if study.memorize else min)(own, key=lambda group: _mean(group, cell))
            values = ", ".join(f"{k.rpartition('.')[2]} {v}" for k, v in best["values"].items())
            places.append(f"{values} ({_mean(best, cell):.3f}) at {parameters:,} parameters")
        sentences.append(f"{cell} is best with {'; '.join(places)}.")
    return sentences
