"""A study of a paper: a comparison for every number of parameters and every value that varies, and
what they say together."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from charlm.config.studies import Study

Values = dict[str, Any]


@dataclass(frozen=True)
class Group:
    """One comparison of a study. values: what varies, by dotted key."""

    parameters: int
    values: Values

    @property
    def name(self) -> str:
        """What it is called, as in "50,000 parameters, num_layers 2"."""
        parts = [f"{self.parameters:,} parameters"]
        parts += [f"{key.rpartition('.')[2]} {value}" for key, value in self.values.items()]
        return ", ".join(parts)

    @property
    def folder(self) -> str:
        parts = [str(self.parameters)]
        parts += [f"{key.rpartition('.')[2]}={value}" for key, value in self.values.items()]
        return "-".join(parts).replace("/", "_")

    @property
    def changes(self) -> list[str]:
        """What is set on top of the study's configuration."""
        return [f"{key}={value}" for key, value in self.values.items()]


def groups(study: Study) -> list[Group]:
    """List the comparisons of a study, the smallest networks first."""
    return [
        Group(parameters, dict(zip(study.vary, chosen, strict=True)))
        for parameters in study.parameters
        for chosen in itertools.product(*study.vary.values())
    ]


def study_result(
    name: str, study: Study, finished: Sequence[tuple[Group, dict[str, Any]]]
) -> dict[str, Any]:
    """Put the results of the comparisons together, as study.json holds them.

    Units: bits and nats a character, on validation.
    """
    found = [
        {
            "name": group.name,
            "parameters": group.parameters,
            "values": group.values,
            "folder": group.folder,
            "ngram": result["baselines"]["ngram"],
            "rows": [_row(row) for row in result["rows"]],
        }
        for group, result in finished
    ]
    return {
        "study": name,
        "title": study.title,
        "source": study.source,
        "finding": study.finding,
        "published": [one.model_dump() for one in study.published],
        "cells": study.cells,
        "seeds": finished[0][1]["seeds"],
        "text": finished[0][1]["text"],
        "groups": found,
        "sentences": [*_between_cells(study.cells, found), *_within_cells(study, found)],
    }


def _row(row: dict[str, Any]) -> dict[str, Any]:
    kept = ("cell", "hidden_size", "num_layers", "parameters", "learning_rate", "dropout")
    bits = row["bits_per_character"]
    nats = bits["mean"] * math.log(2)
    return {**{key: row[key] for key in kept}, "bits_per_character": bits, "nats": nats}


def _mean(group: dict[str, Any], cell: str) -> float:
    row = next(row for row in group["rows"] if row["cell"] == cell)
    return float(row["bits_per_character"]["mean"])


def _between_cells(cells: Sequence[str], found: Sequence[dict[str, Any]]) -> list[str]:
    """Say of every two cells how often one is ahead, and by how much on average."""
    sentences = []
    for one, other in itertools.combinations(cells, 2):
        gaps = [_mean(group, other) - _mean(group, one) for group in found]
        first, second = (one, other) if fmean(gaps) >= 0 else (other, one)
        ahead = sum((gap > 0) == (first == one) for gap in gaps if gap)
        sentences.append(
            f"{first} predicts better than {second} in {ahead} of {len(gaps)} comparisons, by "
            f"{abs(fmean(gaps)):.3f} bits a character on average."
        )
    return sentences


def _within_cells(study: Study, found: Sequence[dict[str, Any]]) -> list[str]:
    """Say of every cell which of the values that vary is best, by number of parameters."""
    sentences = []
    for cell in study.cells if study.vary else []:
        places = []
        for parameters in study.parameters:
            own = [group for group in found if group["parameters"] == parameters]
            best = min(own, key=lambda group: _mean(group, cell))
            values = ", ".join(f"{k.rpartition('.')[2]} {v}" for k, v in best["values"].items())
            places.append(f"{values} ({_mean(best, cell):.3f}) at {parameters:,} parameters")
        sentences.append(f"{cell} is best with {'; '.join(places)}.")
    return sentences
