"""The page of a scored text: every character coloured by its surprisal, with likely alternatives.

A long text is a chain of self-contained pages of limited size.

Symbols: N positions, K alternatives.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.reports.page import render, script, write_page
from charlm.text.display import visible
from charlm.text.vocabulary import Vocabulary

PER_FILE = 50_000
"""Characters of a page's text: with five alternatives each, 1.8 MB."""
STEPS_OF_BIT, STEPS_OF_CHANCE = 16, 10_000
"""Resolution of a page's surprisals (a byte, so up to 15.9 bits) and probabilities."""


@dataclass(frozen=True)
class ScoredText:
    """The data of the page. result: the output of `score --json`, for the whole text. names: of the
    models.

    Shapes: symbols and bits [N]; alternatives and chances [N, K].
    """

    vocabulary: Vocabulary
    names: Sequence[str]
    result: dict[str, Any]
    symbols: NDArray[Any]
    bits: NDArray[np.float32]
    alternatives: NDArray[np.uint32]
    chances: NDArray[np.float32]


def write(scored: ScoredText, path: Path) -> list[Path]:
    """Write the page and, for a long text, further ones next to it; return their paths.

    Raises: CharlmError if one cannot be written.
    """
    starts = range(0, max(1, len(scored.symbols)), PER_FILE)
    paths = [path, *(_numbered(path, at) for at in range(2, len(starts) + 1))]
    source, digest = script("text.js", "surprisal.js")
    for number, (start, own) in enumerate(zip(starts, paths, strict=True)):
        page = render(
            "surprisal.html.j2",
            title=_title(scored),
            result=scored.result,
            names=scored.names,
            shown=len(scored.symbols),
            data=_data(scored, slice(start, start + PER_FILE)),
            script=source,
            digest=digest,
            number=number,
            files=[one.name for one in paths],
        )
        write_page(own, page)
    return paths


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def _title(scored: ScoredText) -> str:
    """Return the page's title: a sentence on the score."""
    falling = np.sort(scored.bits.astype(np.float64))[::-1]
    sums = np.cumsum(falling)
    half = 1 + int(np.searchsorted(sums, sums[-1] / 2))
    share = 100 * half / len(falling)
    bits = scored.result["bits_per_character"]
    return f"{bits:.3f} bits per character, half of them spent on {share:.0f} % of the text"


def _data(scored: ScoredText, part: slice) -> dict[str, Any]:
    """Return the data for the page's script: small integers, in base64."""
    symbols, alternatives = scored.symbols[part].astype(np.uint32), scored.alternatives[part]
    table = np.unique(np.concatenate([symbols, alternatives.ravel()]))
    own = "u2" if len(table) <= 1 << 16 else "u4"
    bits = np.clip(np.rint(scored.bits[part] * STEPS_OF_BIT), 0, 255)
    chances = np.clip(np.rint(scored.chances[part] * STEPS_OF_CHANCE), 0, STEPS_OF_CHANCE)
    return {
        "names": [visible(scored.vocabulary.symbol(int(index))) for index in table],
        "width": int(own[1]),
        "alternatives": alternatives.shape[1],
        "symbols": _packed(np.searchsorted(table, symbols), f"<{own}"),
        "bits": _packed(bits, "u1"),
        "others": _packed(np.searchsorted(table, alternatives), f"<{own}"),
        "chances": _packed(chances, "<u2"),
        "stepsOfBit": STEPS_OF_BIT,
        "stepsOfChance": STEPS_OF_CHANCE,
    }


def _packed(values: NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, np.dtype(kind)).tobytes()).decode()
