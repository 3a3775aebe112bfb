"""Chapters on the LSTM: gates that open and shut, the conveyor belt, addition."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from charlm.cells.lstm import LSTM
from charlm.inspection.gates import ordered, saturation
from charlm.inspection.trace import trace
from charlm.lecture import live
from charlm.lecture.chapter import Chapter
from charlm.lecture.lab import Lab, excerpt_text
from charlm.reports.picture import COLOURS, Picture, drawable, on_axes
from charlm.reports.view import Table
from charlm.reports.words import Words

SHOWN = 80
"""Characters of the text for which gates are drawn."""
LSTM_EQUATION = """\
i(t) = sigma(W_i [h(t-1), x(t)] + b_i)
f(t) = sigma(W_f [h(t-1), x(t)] + b_f)
g(t) = tanh (W_C [h(t-1), x(t)] + b_C)
o(t) = sigma(W_o [h(t-1), x(t)] + b_o)
c(t) = f(t) c(t-1) + i(t) g(t)
h(t) = o(t) tanh(c(t))"""
STEPS = 100


def gates(lab: Lab, words: Words) -> Chapter:
    """Show the gates of the trained LSTM over a piece of text."""
    model, corpus = lab.trained["lstm"].model, lab.corpus
    text = excerpt_text(lab, SHOWN)
    symbols = corpus.vocabulary.encode(text)
    layer = trace(model, symbols, list(text)).layers[0]
    order = ordered(layer["c"])
    letters = [drawable({"\n": "\u21b5"}.get(c, c)) for c in text[: len(symbols)]]

    def draw(figure: Figure, ink: str) -> None:
        names = {"i": "i, input gate", "f": "f, forget gate", "o": "o, output gate", "c": "c"}
        panels = figure.subplots(len(names), sharex=True)
        for axes, (letter, name) in zip(panels, names.items(), strict=True):
            values = layer[letter][:, order].T
            bound = float(np.quantile(np.abs(values), 0.98))
            low, high, colours = (-bound, bound, "RdBu_r") if letter == "c" else (0, 1, "Greys")
            axes.imshow(
                values, aspect="auto", interpolation="nearest", cmap=colours, vmin=low, vmax=high
            )
            axes.set_title(name, fontsize=9, loc="left")
            axes.set_yticks([])
            axes.grid(visible=False)
        panels[-1].set_xticks(range(len(letters)), letters, fontsize=7, family="monospace")

    saturated = saturation(model, lab.held_out)
    shut = {one.gate: float(one.shut.mean()) for one in saturated}
    opened = {one.gate: float(one.open.mean()) for one in saturated}
    picture = Picture(
        "lecture-gates", words.text("gates", "figure"),
        words.text("gates", "caption"),
        "Heat maps of the input, forget and output gate and the cell state over a text.", draw,
        size=(8.2, 5.0),
    )  # fmt: skip
    inside = all(layer[g].min() >= 0 and layer[g].max() <= 1 for g in ("i", "f", "o"))
    return Chapter(
        "gates",
        [picture],
        {"shut": 100 * shut["f"], "open": 100 * opened["f"]},
        holds=inside,
        equation=LSTM_EQUATION,
        more='charlm inspect RUN --gates "some text"',
        live=live.lstm_gates(words),
    )


def keep_or_erase(lab: Lab, words: Words) -> Chapter:
    """Force the forget gate open and shut, and measure the remaining memory."""
    rows, left = [], {}
    for name, forget in (("f = 1, i = 0", 40.0), ("f = 0, i = 0", -40.0)):
        cell = _forced(forget)
        state = cell.initial_state(1)
        state = (state[0], torch.full_like(state[1], 0.7))
        values = []
        generator = torch.Generator().manual_seed(1)
        for _ in range(STEPS):
            state = cell.step(torch.randn(1, 4, generator=generator, dtype=torch.float64), state)
            values.append(float(state[1].mean()))
        left[forget > 0] = values
        rows.append((name, "0.700000", f"{values[0]:.6f}", f"{values[-1]:.6f}"))
    heading = ("gates", "c(0)", "c(1)", f"c({STEPS})")
    return Chapter(
        "keep_or_erase",
        [Table(heading, rows)],
        {"kept": left[True][-1], "erased": left[False][0]},
        holds=abs(left[True][-1] - 0.7) < 1e-6 and abs(left[False][0]) < 1e-6,
        equation="c(t) = f(t) c(t-1) + i(t) g(t)",
        more="charlm sample --clamp 0.3=2.5",
    )


def _forced(forget: float) -> LSTM:
    """Return an LSTM whose forget gates have a fixed value, and whose input gates are shut."""
    cell = LSTM(4, 6).double()
    cell.reset_parameters("orthogonal", torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert cell.bias_ih is not None
        cell.bias_ih[:6] = -40.0
        cell.bias_ih[6:12] = forget
    return cell.requires_grad_(False)


def belt(lab: Lab, words: Words) -> Chapter:
    """Compare the autocorrelation of the cell state and of the hidden state."""
    own = lab.held_out.head(3_000)
    layer = trace(lab.trained["lstm"].model, own.read(), own.characters()).layers[0]
    lags = 40
    likeness = {part: _likeness(layer[part], lags) for part in ("c", "h")}

    def draw(axes: Axes, ink: str) -> None:
        for at, (part, values) in enumerate(likeness.items()):
            axes.plot(values, color=COLOURS[at], label=part, linestyle=("-", "--")[at])
        axes.set_ylim(-0.05, 1.02)
        axes.set_xlabel("characters later")
        axes.set_ylabel("correlation with itself")
        axes.legend(loc="upper right")

    picture = Picture(
        "lecture-belt", words.text("belt", "figure"), words.text("belt", "caption"),
        "Line chart: the correlation of the cell state with itself falls more slowly than that of "
        "the hidden state.", on_axes(draw),
    )  # fmt: skip
    return Chapter(
        "belt",
        [picture],
        {"c": likeness["c"][10], "h": likeness["h"][10]},
        holds=likeness["c"][10] > likeness["h"][10],
        more='charlm inspect RUN --gates "some text"',
    )


def _likeness(values: NDArray[np.float32], lags: int) -> list[float]:
    """Return the mean autocorrelation of the units, by lag in characters."""
    standard = (values - values.mean(0)) / (values.std(0) + 1e-9)
    correlations = [1.0]
    for lag in range(1, lags + 1):
        correlations.append(float((standard[lag:] * standard[:-lag]).mean()))
    return correlations


def addition(lab: Lab, words: Words) -> Chapter:
    """Propagate a gradient back by addition through open gates, and by multiplication with a
    matrix."""
    open_gates = _forced(40.0)
    lstm = _carried(open_gates)
    rows, carried = [], {}
    matrix = torch.empty(6, 6, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(matrix, std=1 / 6**0.5, generator=generator)
    for name, scale in (("small", 0.8), ("large", 1.25)):
        radius = float(torch.linalg.eigvals(matrix).abs().max())
        own = matrix * scale / radius
        power = torch.linalg.matrix_power(own, STEPS)
        carried[name] = float(torch.linalg.matrix_norm(power, 2))
        label = words.text("addition", name)
        rows.append((label, f"{carried[name]:.1e}"))
    rows.insert(0, (words.text("addition", "gates"), f"{lstm:.6f}"))
    heading = tuple(words.text("addition", "heading").split(" | "))
    return Chapter(
        "addition",
        [Table(heading, rows)],
        {"gates": lstm, "small": carried["small"], "large": carried["large"]},
        holds=abs(lstm - 1) < 1e-6 and carried["small"] < 1e-6 and carried["large"] > 1e6,
        equation="d c(t) / d c(t-1) = f(t)          (addition only copies it)\n"
        "d h(t) / d h(t-1) = diag(1 - h(t)^2) W_hh   (the same matrix every time)",
        more="charlm inspect RUN --gradients",
    )


def _carried(cell: LSTM) -> float:
    """Return d c(t) / d c(t - STEPS) of a unit, by autograd."""
    state = cell.initial_state(1)
    begin = torch.full_like(state[1], 0.3).requires_grad_()
    state = (state[0], begin)
    with torch.enable_grad():
        for _ in range(STEPS):
            state = cell.step(torch.zeros(1, 4, dtype=torch.float64), state)
        (gradient,) = torch.autograd.grad(state[1][0, 0], begin)
    return float(gradient[0, 0])
