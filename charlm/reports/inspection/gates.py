"""View of gates and states over a text, as heat maps with the text along the axis."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from charlm.inspection.gates import Saturation, ordered
from charlm.inspection.trace import Trace, as_lists
from charlm.reports.inspection.overview import saturation_row, saturation_table
from charlm.reports.picture import COLOURS, Picture, drawable
from charlm.reports.view import Block, Coloured, Section, View
from charlm.text.display import visible

MOST_DRAWN = 160
"""Characters along the axis of a figure; of a longer text, the first ones."""
NAMES = {
    "i": "i, the input gate: share written",
    "f": "f, the forget gate: share kept (0 erases)",
    "o": "o, the output gate: share shown",
    "g": "g, the candidate to write",
    "c": "c, the cell state: the conveyor belt",
    "h": "h, the hidden state: the part shown",
    "r": "r, the reset gate: how much of the past the candidate sees",
    "z": "z, the update gate",
    "n": "n, the candidate",
}
MEANING_OF_Z = {
    "before": (
        "Here z weighs the candidate, as in the lecture: h = (1 - z) h + z n. So (1 - z) acts like "
        "an "
        "LSTM's forget gate, z like its input gate, and both always add up to 1."
    ),
    "after": (
        "Here z weighs the old state, as in PyTorch: h = z h + (1 - z) n. So z acts like an "
        "LSTM's forget gate, and (1 - z) like its input gate. The lecture's z is this one's "
        "(1 - z); both always add up to 1."
    ),
}


def gates_view(
    name: str, trace: Trace, saturated: Sequence[Saturation], reset_gate: str | None
) -> View:
    """Show every gate and state of each layer. reset_gate: the form of a GRU, None for others."""
    sections, sentences = [], _sentences(trace, saturated)
    if reset_gate is not None:
        sentences.append(MEANING_OF_Z[reset_gate])
    for number, layer in enumerate(trace.layers):
        units = layer["h"].shape
        flat = {key: value for key, value in layer.items() if value.shape == units}
        blocks: list[Block] = [_belt(trace.characters, flat, number)]
        blocks += [_heat_map(trace.characters, flat, number)]
        blocks += _coloured(trace.characters, flat)
        sections.append(Section(f"Layer {number}", blocks))
    if saturated:
        about = (
            "A gate near 0 or 1 is saturated: a unit whose forget gate stays open remembers, one "
            "whose "
            "gates are never saturated computes. Source of the measure: Karpathy, Johnson and "
            "Fei-Fei 2015."
        )
        sections.append(
            Section("How often gates are shut or open", [about, saturation_table(saturated)])
        )
    return View(
        "gates",
        _title(name, trace, saturated, reset_gate),
        sentences,
        sections,
        {
            "characters": trace.characters,
            "layers": as_lists(trace.layers),
            "saturation": [saturation_row(one) for one in saturated],
        },
        about=f"{len(trace.characters):,} symbols, read from the initial state, by the equations.",
    )


def _title(name: str, trace: Trace, saturated: Sequence[Saturation], reset_gate: str | None) -> str:
    forget = next((one for one in saturated if one.gate in ("f", "z")), None)
    if forget is None:
        return f"{name}: {trace.layers[0]['h'].shape[1]} units over a text"
    share = (forget.shut if reset_gate == "before" else forget.open).mean()
    return f"{name}: in layer 0 a unit keeps its memory {100 * share:.0f} % of the time"


def _sentences(trace: Trace, saturated: Sequence[Saturation]) -> list[str]:
    sentences = []
    for one in saturated:
        if one.gate == "f":
            always = int((one.open > 0.9).sum())
            carry = ": they carry something over many characters" if always else ""
            sentences.append(
                f"Layer {one.layer}: {always} of {len(one.open)} units keep their forget gate open "
                f"nine tenths of the time{carry}."
            )
    for number, layer in enumerate(trace.layers):
        if "c" in layer and "normalizer" not in layer:
            largest = np.abs(layer["c"]).max()
            adds_up = "; it adds up over many characters" if largest > 1 else ""
            sentences.append(
                f"Layer {number}: over this text the cell state c reaches {largest:.1f}{adds_up}. "
                "The hidden state h, which the layers above read, reaches "
                f"{np.abs(layer['h']).max():.2f}."
            )
    return sentences


def _lasting(values: np.ndarray, count: int) -> np.ndarray:
    """Choose the units whose value changes most slowly relative to its range."""
    spread = values.std(0) + 1e-9
    steps = np.abs(np.diff(values, axis=0)).mean(0) if len(values) > 1 else np.zeros_like(spread)
    moving = spread > np.quantile(spread, 0.5)
    return np.argsort(np.where(moving, steps / spread, np.inf))[:count]


def _belt(characters: list[str], layer: dict[str, Any], number: int) -> Picture:
    """Draw a few slow units of the cell state and of the hidden state over time."""
    main = "c" if "c" in layer else "h"
    units = _lasting(layer[main][:MOST_DRAWN], 4)
    parts = [main, "h"] if main == "c" else ["h"]
    message = (
        "The slowest units of the cell state, and their outputs"
        if main == "c"
        else "The slowest units of the hidden state"
    )

    def draw(figure: Figure, ink: str) -> None:
        panels = figure.subplots(len(parts), sharex=True, squeeze=False)[:, 0]
        for axes, part in zip(panels, parts, strict=True):
            for at, unit in enumerate(units):
                values = layer[part][:MOST_DRAWN, unit]
                largest = np.abs(layer[part][:, unit]).max() + 1e-9
                axes.plot(values / largest, color=COLOURS[at], label=f"unit {unit}")
            axes.set_ylabel(part)
            axes.grid(visible=False, axis="x")
        panels[0].legend(loc="upper left", ncols=4, fontsize=8)
        _text_axis(panels[-1], characters)

    return Picture(
        f"belt-layer-{number}",
        message,
        f"The four units of layer {number} that change most slowly, each in units of its largest "
        "value.",
        f"Line chart over the text: {', '.join(parts)} of units {', '.join(map(str, units))}.",
        draw,
        size=_size(characters, 1.6 * len(parts) + 0.8),
    )


def _heat_map(characters: list[str], layer: dict[str, Any], number: int) -> Picture:
    """Draw all gates and states of a layer, with a row per unit."""
    main = "c" if "c" in layer else "h"
    order = ordered(layer[main])

    def draw(figure: Figure, ink: str) -> None:
        panels = figure.subplots(len(layer), sharex=True, squeeze=False)[:, 0]
        for axes, (letter, values) in zip(panels, layer.items(), strict=True):
            gate = letter in ("i", "f", "o", "r", "z")
            bound = max(1.0, float(np.quantile(np.abs(values), 0.99)))
            image = axes.imshow(
                values[:MOST_DRAWN, order].T,
                aspect="auto",
                interpolation="nearest",
                cmap="Greys" if gate else "RdBu_r",
                vmin=0 if gate else -bound,
                vmax=1 if gate else bound,
            )
            axes.set_title(NAMES.get(letter, letter), fontsize=9, loc="left")
            axes.set_yticks([])
            axes.grid(visible=False)
            figure.colorbar(image, ax=axes, pad=0.01, aspect=10)
        _text_axis(panels[-1], characters)

    return Picture(
        f"heat-map-layer-{number}",
        f"Every gate and state of layer {number}, character by character",
        "A row per unit, similar ones adjacent; the same order in every panel. Gates: white is "
        "shut, black open. States: red positive, blue negative.",
        f"Heat maps of {', '.join(layer)} over the text, {len(order)} units each.",
        draw,
        size=_size(characters, 1.35 * len(layer) + 0.6),
    )


def _coloured(characters: list[str], layer: dict[str, Any]) -> list[Block]:
    """Colour the text by the two slowest units and, for gated cells, by the mean forgetting."""
    main = "c" if "c" in layer else "h"
    blocks: list[Block] = []
    for unit in _lasting(layer[main], 2):
        values = layer[main][:, unit]
        scale = np.abs(values).max() + 1e-9
        blocks.append(Coloured(f"Unit {unit} of {main}", characters, values / scale))
    return blocks


def _text_axis(axes: Any, characters: list[str]) -> None:
    shown = [visible(c) if c not in "\n\t " else {"\n": "\u21b5"}.get(c, "") for c in characters]
    shown = [drawable(c) for c in shown[:MOST_DRAWN]]
    axes.set_xticks(range(len(shown)), shown, fontsize=7, family="monospace")
    axes.tick_params(axis="x", length=0, pad=2)
    axes.set_xlim(-0.5, len(shown) - 0.5)


def _size(characters: list[str], height: float) -> tuple[float, float]:
    return max(4.6, 1.2 + 0.085 * min(len(characters), MOST_DRAWN)), height
