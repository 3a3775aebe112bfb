"""The architecture: what may import what."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "charlm"

# The floors of the house, lowest first. A room imports from lower floors only, or from the rooms
# of its own floor that are named behind it.
FLOORS: list[dict[str, set[str]]] = [
    {
        "errors": set(),
        "schedule": set(),
        "config": set(),
        "settings": {"config", "errors"},
        "paired": set(),
    },
    {
        "vocabulary": set(),
        "sources": set(),
        "reading": {"sources"},
        "corpus": {"vocabulary", "sources", "reading"},
        "lanes": {"vocabulary"},
    },
    {
        "cells.base": set(),
        "cells.rnn": {"cells.base"},
        "cells.lstm": {"cells.base"},
        "cells.gru": {"cells.base"},
        "cells": {"cells.base", "cells.rnn", "cells.lstm", "cells.gru"},
        "machine": set(),
        "replay": set(),
        "checkpoint": set(),
        "rundir": {"checkpoint"},
    },
    {
        "native": set(),
        "native.build": set(),
        "native.interface": set(),
        "native.products": {"native.interface"},
        "native.window": {"native.interface", "native.products"},
        "native.head": {"native.interface", "native.products"},
        "native.stack": {"native.head", "native.interface", "native.products", "native.window"},
        "native.trial": {
            *("native.head", "native.interface", "native.window", "native.writing"),
        },
        "native.choose": {"native", "native.build", "native.interface", "native.trial"},
        "native.writing": {"native.interface"},
    },
    {"model": set(), "optimizer": {"model"}, "filters": set()},
    {
        "engine": set(),
        "sample": {"engine"},
        "evaluate": set(),
        "score": {"evaluate"},
        "learner": set(),
        "events": set(),
        "ngram": set(),
        "diagnose": {"evaluate"},
    },
    {
        "train": set(),
        "runs": {"train"},
        "benchmark": set(),
        "compare": set(),
        "compare.plan": {"runs"},
        "compare.probe": set(),
        "compare.baselines": set(),
        "compare.kept": set(),
        "compare.race": {"runs", "train", "compare.plan"},
        "compare.tune": {"compare.plan", "compare.race"},
        "compare.timing": {"compare.plan"},
        "compare.examine": {"compare.race"},
        "compare.rows": {"compare.plan", "compare.examine", "compare.baselines"},
        "compare.claims": {"compare.plan", "compare.examine", "compare.probe", "compare.rows"},
        "compare.comparison": {
            *("compare", "compare.plan", "compare.probe", "compare.baselines", "compare.race"),
            *("compare.tune", "compare.timing", "compare.examine", "compare.rows"),
            *("compare.claims", "compare.kept"),
        },
    },
    {
        "api": set(),
        "console": set(),
        "progress": {"console"},
        "standings": {"console", "progress"},
        "figures": set(),
        "report": {"figures"},
    },
    {
        "commands": set(),
        "commands.signals": set(),
        "commands.train": {"commands.signals"},
        "commands.sample": set(),
        "commands.score": set(),
        "commands.compare": {"commands.signals"},
        "commands.bench": set(),
        "cli": {
            *("commands", "commands.train", "commands.sample", "commands.score"),
            *("commands.compare", "commands.bench"),
        },
        "__main__": {"cli"},
    },
]
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


def rooms() -> list[str]:
    names = []
    for path in PACKAGE.rglob("*.py"):
        dotted = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        names.append(dotted.removesuffix(".__init__"))
    return sorted(set(names) - {"__init__"})


def imported(room: str) -> set[str]:
    path = PACKAGE / Path(*room.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "charlm":
            found |= {f"charlm.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    names = {name.removeprefix("charlm.") for name in found if name.startswith("charlm.")}
    return names - {"__version__"}


def test_every_room_has_a_floor() -> None:
    assert set(rooms()) == set(LEVEL)


@pytest.mark.parametrize("room", rooms())
def test_imports_go_downward_only(room: str) -> None:
    allowed = {other for other in LEVEL if LEVEL[other] < LEVEL[room]} | FLOORS[LEVEL[room]][room]
    assert imported(room) <= allowed
