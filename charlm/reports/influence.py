"""The page of influences: choose a character, and those before it are coloured by influence."""

import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from charlm.reports.page import render, script, write_page
from charlm.text.display import visible

PAGE = "influence.html"


def write(name: str, characters: Sequence[str], drove: NDArray[np.float64], folder: Path) -> Path:
    """Write `influence.html`; return its path.

    drove: influence of symbol s on the prediction of symbol t, row t, column s, [N, N].

    Raises: CharlmError if it cannot be written.
    """
    size = np.abs(drove)
    largest = size.max(1, keepdims=True)
    scaled = np.rint(127 * drove / np.maximum(largest, 1e-12)).astype(np.int8)
    source, digest = script("text.js", "influence.js")
    page = render(
        "influence.html.j2",
        title=title(drove),
        name=name,
        data={
            "characters": list(map(visible, characters)),
            "drove": base64.b64encode(scaled.tobytes()).decode(),
        },
        script=source,
        digest=digest,
    )
    write_page(folder / PAGE, page)
    return folder / PAGE


def title(drove: NDArray[np.float64]) -> str:
    """Return a sentence on the distance from which most of the influence comes."""
    count = len(drove)
    distance = np.subtract.outer(np.arange(count), np.arange(count))
    size = np.abs(drove)
    shares = [float(size[distance == lag].sum()) for lag in range(1, count)]
    running = np.cumsum(shares) / max(sum(shares), 1e-12)
    half = 1 + int(np.searchsorted(running, 0.5))
    most = 1 + int(np.searchsorted(running, 0.9))
    last = "the last character" if half == 1 else f"the last {half} characters"
    return (
        f"Half of the influence on a prediction comes from {last}, nine tenths from the last {most}"
    )
