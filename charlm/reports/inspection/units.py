"""View of units that follow a property of the text, with the text coloured by each."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from charlm.inspection.units import Read, Unit
from charlm.reports.view import Block, Coloured, Section, Table, View, Written

SHOWN = 500
"""Coloured characters of the text, over all pieces together."""
HELD, TEMPERATURE = 400, 0.8
"""Length and temperature of the samples with a unit held."""
CLEAR = 0.6
"""Least held-out correlation of a unit that follows a property."""


def units_view(
    name: str,
    found: Sequence[Unit],
    held_out: Read,
    clamped: Mapping[Unit, tuple[str, str, str]],
) -> View:
    """Show the best unit of every feature.

    clamped: samples of the model with a unit held low, left alone and held high.
    """
    clear = [unit for unit in found if abs(unit.held_out) >= CLEAR]
    if found and not clear:
        title = f"{name}: no unit follows a property of the text"
    elif found:
        best = found[0]
        title = (
            f"{name}: unit {best.unit} of layer {best.layer} follows {best.feature!r}, "
            f"held-out correlation {best.held_out:+.2f}"
        )
    else:
        title = f"{name}: no property of the text varies in it"
    sections = []
    if found:
        sections = [Section("The best unit for each property", [_table(found, held_out)])]
    for unit in found[:6]:
        sections.append(Section(_heading(unit), _blocks(unit, held_out, clamped.get(unit))))
    return View(
        "units",
        title,
        [
            f"{len(clear)} of {len(found)} properties have a unit that follows them at {CLEAR} or "
            "more.",
            "Each unit was chosen on one half of the places and is judged on the other.",
        ],
        sections,
        [asdict(unit) for unit in found],
        about="Correlations of each unit's value with a property of the text at the same "
        "character, on "
        "validation text. The best of many units is partly luck: hence the held-out half.",
    )


def _heading(unit: Unit) -> str:
    return f"{unit.feature}: layer {unit.layer}, {unit.state}, unit {unit.unit}"


def _table(found: Sequence[Unit], held_out: Read) -> Table:
    memory = "c" if any(state == "c" for _, state, _ in held_out.labels) else "h"
    rows = [
        (
            unit.feature,
            f"layer {unit.layer}, unit {unit.unit} ({unit.state})",
            f"{unit.score:+.3f}",
            f"{unit.held_out:+.3f}",
            f"{unit.low:+.2f} to {unit.high:+.2f}",
        )
        for unit in found
    ]
    heading = ("property", "unit", "where chosen", "held out", f"its {memory}, 5 to 95 %")
    return Table(heading, rows)


def _blocks(unit: Unit, read: Read, texts: tuple[str, str, str] | None) -> list[Block]:
    column = read.labels.index((unit.layer, unit.state, unit.unit))
    centre = read.values[:, column].mean()
    scale = np.quantile(np.abs(read.values[:, column] - centre), 0.98) + 1e-9
    blocks: list[Block] = []
    shown = min(SHOWN, len(read.characters))
    places = range(0, shown, read.place_length)
    for number, start in enumerate(places, 1):
        stretch = slice(start, min(start + read.place_length, shown))
        place = f", place {number} of {len(places)}" if len(places) > 1 else ""
        blocks.append(
            Coloured(
                f"Held-out text{place}: orange above the unit's mean, blue below.",
                read.characters[stretch],
                (read.values[stretch, column].astype(np.float64) - centre) / scale,
            )
        )
    if texts:
        low, free, high = texts
        blocks += [
            Written(f"Writing with the unit held at {unit.low:+.2f}", low),
            Written("Writing with the unit left alone, same seed", free),
            Written(f"Writing with the unit held at {unit.high:+.2f}", high),
            f"Again: charlm sample RUN --clamp {unit.layer}.{unit.unit}={unit.high} --seed 0 "
            f"--length {HELD} --temperature {TEMPERATURE}",
        ]
    return blocks
