"""The result of a comparison on several texts: the differences between the cells over all texts.

Every text counts the same, however long; the texts are the random unit.
"""

import tomllib
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from charlm.comparison.claims import ABSENT, Claim
from charlm.comparison.curves import FEW
from charlm.comparison.result import Result
from charlm.comparison.reuse import WITHOUT_EFFECT
from charlm.comparison.statistics import Interval, difference, ratio, sign_test
from charlm.comparison.table import and_, bounds, spread
from charlm.comparison.texts import FEWEST_SIGNS

Texts = Mapping[str, Result]
"""The result on each text, by name."""
SCALED = {
    *("train.steps", "train.warmup_steps", "train.patience"),
    *("train.eval_every", "train.checkpoint_every"),
}
"""Keys that are chosen by the speed on a text if there is a time budget."""


def result_over_texts(texts: Texts, plan: Mapping[str, Any], command: str) -> Result:
    """Collect the result. plan: as of `PlanFile.as_json`. command: repeats the comparison."""
    first = next(iter(texts.values()))
    over = over_texts(texts)
    return {
        "match": first["match"],
        "verdict": over["sentences"],
        "texts": [{"name": name, **result} for name, result in texts.items()],
        "over_texts": over,
        "claims": _claims(texts),
        "seeds": first["seeds"],
        "tuned": first["tuned"],
        "plan": plan,
        "command": command,
        "versions": first["versions"],
        "machine": first["machine"],
        "seconds": {
            key: round(sum(result["seconds"][key] for result in texts.values()), 3)
            for key in ("training", "last_call")
        },
        "notes": [
            *_settings(texts),
            *dict.fromkeys(note for result in texts.values() for note in result["notes"]),
        ],
    }


def over_texts(texts: Texts) -> dict[str, Any]:
    """Compare the cells over all texts."""
    cells = [row["cell"] for row in next(iter(texts.values()))["rows"]]
    rows = [_row(cell, texts) for cell in cells]
    pairs = [_pair(one, other, texts) for at, one in enumerate(cells) for other in cells[at + 1 :]]
    orders = {name: _order(result["rows"]) for name, result in texts.items()}
    shown = [pair for pair in pairs if len(cells) <= FEW or _order(rows)[0] in pair["cells"]]
    return {
        "rows": rows,
        "differences": pairs,
        "described": [pair["cells"] for pair in shown],
        "orders": orders,
        "sentences": [
            *_best(rows, pairs, len(texts)),
            *(f"{pair['sentence']}." for pair in shown),
            *_orders(orders),
            *_widths(rows, texts),
        ],
    }


def described(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the pairs of cells that are shown: all of a few cells, else those with the best."""
    over = result["over_texts"]
    return [pair for pair in over["differences"] if pair["cells"] in over["described"]]


def _row(cell: str, texts: Texts) -> dict[str, Any]:
    """Return a cell's mean over texts, and its size on each."""
    own = [_of(cell, result) for result in texts.values()]
    return {
        "cell": cell,
        "bits_per_character": spread([row["bits_per_character"]["mean"] for row in own]),
        "hidden_sizes": [row["hidden_size"] for row in own],
        "parameters": [row["parameters"] for row in own],
    }


def _of(cell: str, result: Result) -> dict[str, Any]:
    row: dict[str, Any] = next(row for row in result["rows"] if row["cell"] == cell)
    return row


def _order(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the cells, the fewest bits first."""
    return [row["cell"] for row in sorted(rows, key=lambda row: _mean(row))]


def _mean(row: Mapping[str, Any]) -> float:
    return float(row["bits_per_character"]["mean"])


def _pair(one: str, other: str, texts: Texts) -> dict[str, Any]:
    """Compare two cells: on each text, as it was compared there, and over the texts."""
    by_text = []
    for name, result in texts.items():
        found = next(pair for pair in result["differences"] if pair["cells"] == [one, other])
        by_text.append({"name": name, **{key: found[key] for key in ("mean", "low", "high")}})
        by_text[-1]["shown"] = found["shown"]
    ones, others = ([_mean(_of(cell, r)) for r in texts.values()] for cell in (one, other))
    interval = difference(ones, others)
    relative = ratio(ones, others) if min(*ones, *others) > 0 else None
    ahead = [
        sum(low < high for low, high in zip(*sides, strict=True))
        for sides in ((ones, others), (others, ones))
    ]
    signs, leader = sum(ahead), _leader((one, other), ahead)
    pair = {
        "cells": [one, other],
        **bounds(interval),
        "shown": interval.is_below_zero or interval.is_above_zero,
        "ratio": None if relative is None else bounds(relative),
        "ahead": ahead,
        "leader": leader,
        "lead": _lead(leader, max(ahead), len(texts)),
        "sign_test": sign_test(ahead[0], signs) if signs >= FEWEST_SIGNS else None,
        "by_text": by_text,
    }
    return {**pair, "sentence": _sentence(pair, {one: ones, other: others})}


def _sentence(pair: Mapping[str, Any], means: Mapping[str, Sequence[float]]) -> str:
    """Describe a difference over texts: the cell with the fewer bits minus the other.

    means: of each of the two, by text.
    """
    better, worse = sorted(means, key=lambda cell: fmean(means[cell]))
    gap, texts = difference(means[better], means[worse]), len(means[better])
    relative = "" if pair["ratio"] is None else _ratio(ratio(means[better], means[worse]))
    said = f"{better} minus {worse} is {gap.mean:+.3f} bits per character"
    if gap.is_open:
        return (
            f"Over the texts, {said}{relative}; {_ahead(pair)}, and {texts} texts are too few to "
            "generalise"
        )
    measured = (
        f"{said} (95 % over texts: {gap.low:+.3f} to {gap.high:+.3f}){relative}; {_ahead(pair)}"
    )
    if not pair["shown"]:
        return f"No difference in bits that {texts} texts can show: {measured}"
    return f"{better} predicts better than {worse} over the texts: {measured}"


def _ratio(found: Interval) -> str:
    """Format the geometric mean of the ratios of bits, with its interval."""
    said = f"; geometric mean of the ratios of bits: {found.mean:.3f}"
    return said if found.is_open else f"{said} ({found.low:.3f} to {found.high:.3f})"


def _leader(cells: Sequence[str], ahead: Sequence[int]) -> str | None:
    """Return the cell that is ahead on more texts than the other; None on a tie."""
    one, other = ahead
    return None if one == other else cells[one < other]


def _lead(leader: str | None, most: int, texts: int) -> str:
    """Describe on how many texts a cell is ahead."""
    return f"{leader or 'each'} is ahead on {most} of {texts} texts"


def _ahead(pair: Mapping[str, Any]) -> str:
    """Describe on how many texts a cell is ahead, with the sign test, if there is one."""
    signs = pair["sign_test"]
    return f"{pair['lead']}" + ("" if signs is None else f" (sign test: p = {signs:.2g})")


def _best(rows: Sequence[dict[str, Any]], pairs: Sequence[dict[str, Any]], texts: int) -> list[str]:
    """Name the cell that is best over all texts."""
    best = min(rows, key=_mean)
    own = [pair for pair in pairs if best["cell"] in pair["cells"]]
    leads = "predicts best" if own and all(pair["shown"] for pair in own) else "has the lowest mean"
    return [f"Over {texts} texts, {best['cell']} {leads}: {_mean(best):.3f} bits per character."]


def _orders(orders: Mapping[str, Sequence[str]]) -> list[str]:
    """Compare the orders of the cells on all texts, in a sentence."""
    listed: dict[str, list[str]] = {}
    for name, order in orders.items():
        listed.setdefault(", ".join(order), []).append(name)
    if len(next(iter(orders.values()))) < 2:
        return []
    if len(listed) == 1:
        return [f"The order is the same on every text: {next(iter(listed))}."]
    parts = "; ".join(f"{order} on {and_(names)}" for order, names in listed.items())
    return [f"The order differs by text: {parts}."]


def _widths(rows: Sequence[dict[str, Any]], texts: Texts) -> list[str]:
    """Describe the widths of cells that differ by text."""
    different = [row for row in rows if len(set(row["hidden_sizes"])) > 1]
    if not different:
        return []
    listed = "; ".join(
        f"{row['cell']} "
        + ", ".join(
            f"{width} on {name}" for width, name in zip(row["hidden_sizes"], texts, strict=True)
        )
        for row in different
    )
    return [f"The widths differ, as the texts have different vocabularies: {listed}."]


def _settings(texts: Texts) -> list[str]:
    """Describe settings that were fitted to the texts and therefore differ."""
    left_out = {"model.hidden_size", "train.seed", *WITHOUT_EFFECT}
    if any(result["tuned"] for result in texts.values()):
        left_out |= {"model.dropout", "train.learning_rate"}
    configs = {
        name: tomllib.loads(next(iter(result["config"].values()))) for name, result in texts.items()
    }
    if any(
        texts[name]["match"] == "time" or config["train"].get("seconds")
        for name, config in configs.items()
    ):
        left_out |= SCALED
    values: dict[str, dict[str, Any]] = {}
    for name, config in configs.items():
        for section, table in config.items():
            for key, value in table.items():
                values.setdefault(f"{section}.{key}", {})[name] = value
    return [
        f"{key} differs by text: " + ", ".join(f"{value} on {name}" for name, value in own.items())
        for key, own in values.items()
        if key not in left_out and len({repr(value) for value in own.values()}) > 1
    ]


def _claims(texts: Texts) -> list[dict[str, Any]]:
    """Judge the claims over all texts: one holds if it holds on each."""
    result = []
    for same in zip(*(one["claims"] for one in texts.values()), strict=True):
        by_verdict: dict[str, list[str]] = {}
        for name, claim in zip(texts, same, strict=True):
            by_verdict.setdefault(claim["verdict"], []).append(name)
        evidence = "; ".join(f"{verdict} on {and_(names)}" for verdict, names in by_verdict.items())
        if len(by_verdict) == 1:
            evidence = f"the same on each of {len(same)} texts"
        if all(claim["evidence"].endswith(ABSENT) for claim in same):
            evidence = same[0]["evidence"]
        holds = same[0]["holds"] if len(by_verdict) == 1 else None
        result.append(Claim(same[0]["claim"], holds, evidence).as_json())
    return result
