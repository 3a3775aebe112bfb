"""Chapters on the recurrence: one function at every step, "hello", tanh, vanishing gradients."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from charlm.inspection import toy
from charlm.inspection.gradients import gradient_by_lag
from charlm.inspection.trace import trace
from charlm.inspection.truncation import truncation_errors
from charlm.lecture import live
from charlm.lecture.chapter import Chapter
from charlm.lecture.lab import CELLS, Lab
from charlm.models.recurrent import CharModel
from charlm.reports.inspection.gradients import toy_picture
from charlm.reports.inspection.truncation import angle, angle_picture
from charlm.reports.picture import COLOURS, STYLES, Picture, colour_of, on_axes, plain_log
from charlm.reports.view import Table
from charlm.reports.words import Words

LAGS = 60


def same_function(lab: Lab, words: Words) -> Chapter:
    """Read texts of different lengths by the same parameters."""
    model = lab.trained["rnn"].model
    symbols = torch.from_numpy(lab.held_out.head(5_000).read().astype(np.int64)).unsqueeze(1)
    rows, outputs = [], []
    for length in (5, 50, len(symbols)):
        inputs = symbols[:length]
        hidden, _ = model.outputs(inputs, model.initial_states(1))
        outputs.append(hidden[:5])
        rows.append((f"{length:,}", f"{model.parameter_count():,}", f"{len(hidden):,}"))
    apart = max(float((one - outputs[0]).abs().max()) for one in outputs)
    heading = tuple(words.text("same_function", name) for name in ("length", "parameters", "steps"))
    return Chapter(
        "same_function",
        [Table(heading, rows)],
        {"parameters": model.parameter_count(), "apart": apart},
        holds=apart < 1e-5,
        equation="h(t) = f_W(h(t-1), x(t)) = tanh(W_hh h(t-1) + W_xh x(t) + b)\ny(t) = W_hy h(t) "
        "+ b_y",
        more="charlm inspect RUN",
    )


def kinds(lab: Lab, words: Words) -> Chapter:
    """List the kinds of recurrent networks, and those that charlm implements."""
    names = ("one_to_one", "one_to_many", "many_to_one", "many_to_many", "each_step")
    rows = [tuple(words.text("kinds", name).split(" | ")) for name in names]
    heading = tuple(words.text("kinds", "heading").split(" | "))
    return Chapter("kinds", [Table(heading, rows, is_text=True)], {})


def hello(lab: Lab, words: Words) -> Chapter:
    """Follow "hello" from one-hot to softmax, before and after training."""
    before, after, corpus = lab.hello
    letters = [corpus.vocabulary.symbol(index) for index in range(len(corpus.vocabulary))]
    symbols = np.asarray(corpus.symbols[:]).astype(np.int64)
    tables, chances = [], []
    for model, when in ((before, "before"), (after, "after")):
        hidden, logits = _steps(model, symbols[:-1])
        odds = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        chances.append(odds)
        rows = []
        for at, symbol in enumerate(symbols[:-1].tolist()):
            one_hot = [int(symbol == index) for index in range(len(letters))]
            wanted = int(symbols[at + 1])
            rows.append(
                (
                    f"{letters[symbol]} \u2192 {letters[wanted]}",
                    " ".join(map(str, one_hot)),
                    " ".join(f"{value:+.2f}" for value in hidden[at]),
                    " ".join(f"{value:+.1f}" for value in logits[at]),
                    " ".join(f"{value:.2f}" for value in odds[at]),
                    f"{odds[at][wanted]:.3f}",
                )
            )
        heading = ("x \u2192 y", "one-hot", "hidden", "logits", "softmax", "p(y)")
        tables.append(Table(heading, rows, words.text("hello", when)))
    right = [int(sum(odds[at].argmax() == symbols[at + 1] for at in range(4))) for odds in chances]
    said = [words.text("hello", name) for name in ("figure", "caption")]
    drawn = _softmax_picture(chances, letters, symbols, *said)
    return Chapter(
        "hello",
        [drawn, *tables],
        {"before": right[0], "after": right[1], "letters": " ".join(letters)},
        holds=right[1] == 4,
        more='charlm train && charlm sample --prompt "h"',
        live=live.hello(lab, words),
    )


def _steps(model: CharModel, symbols: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
    """Return the hidden layer and the logits after each symbol."""
    inputs = torch.from_numpy(symbols).unsqueeze(1)
    hidden, _ = model.outputs(inputs, model.initial_states(1))
    logits = model.head(hidden)
    return tuple(one.squeeze(1).double().numpy() for one in (hidden, logits))


def _softmax_picture(
    chances: list[NDArray[np.float64]],
    letters: list[str],
    symbols: NDArray[np.int64],
    title: str,
    caption: str,
) -> Picture:
    def draw(figure: Figure, ink: str) -> None:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, odds, name in zip(panels, chances, ("before", "after"), strict=True):
            axes.imshow(odds.T, vmin=0, vmax=1, cmap="Blues", aspect="equal")
            axes.set_xticks(range(4), [letters[s] for s in symbols[:-1]])
            axes.set_yticks(range(len(letters)), letters)
            axes.set_title(name, fontsize=10)
            axes.grid(visible=False)
            for at in range(4):
                axes.add_patch(_frame(at, int(symbols[at + 1]), ink))

    return Picture(
        "hello-softmax", title, caption,
        "Two heat maps of the probabilities of h, e, l, o after each of h, e, l, l.", draw,
        size=(5.2, 2.8),
    )  # fmt: skip


def _frame(column: int, row: int, ink: str) -> "object":
    from matplotlib.patches import Rectangle

    corner = (column - 0.5, row - 0.5)
    return Rectangle(corner, 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=2)


def zero_centred(lab: Lab, words: Words) -> Chapter:
    """Compare the hidden units of tanh with those of relu."""
    rows, means = [], {}
    symbols = lab.held_out.head(1_000)
    for name, trained in (("tanh", lab.tanh), ("relu", lab.relu)):
        traced = trace(trained.model, symbols.read(), symbols.characters())
        h = traced.layers[0]["h"]
        means[name] = float(h.mean())
        rows.append(
            (
                name,
                f"{h.mean():+.3f}",
                f"{100 * (h < 0).mean():.0f} %",
                f"{h.min():+.2f} / {h.max():+.2f}",
                f"{trained.bits:.3f}",
            )
        )
    heading = tuple(words.text("zero_centred", "heading").split(" | "))
    return Chapter(
        "zero_centred",
        [Table(heading, rows)],
        {
            "tanh": means["tanh"],
            "relu": means["relu"],
            "tanh_bits": lab.tanh.bits,
            "relu_bits": lab.relu.bits,
        },
        holds=abs(means["tanh"]) < abs(means["relu"]),
        more="charlm compare rnn rnn:nonlinearity=relu",
    )


def truncated(lab: Lab, words: Words) -> Chapter:
    """Compare truncated gradients with the full one."""
    errors = truncation_errors(lab.trained["lstm"].model, lab.held_out)
    angles = {one.steps: angle(one) for one in errors}
    picture = angle_picture(
        errors,
        name="truncated",
        title=words.text("truncated", "figure"),
        caption=words.text("truncated", "caption"),
    )
    return Chapter(
        "truncated",
        [picture],
        {"short": angles[8], "long": angles[64]},
        holds=angles[64] < angles[8],
        more="charlm inspect RUN --bptt",
    )


def vanishing_toy(lab: Lab, words: Words) -> Chapter:
    """Show powers of a number, with tanh and without."""
    curves = toy.toy(list(toy.FACTORS), LAGS)
    picture = toy_picture(
        toy.FACTORS,
        curves,
        name="lecture-toy",
        title=words.text("vanishing_toy", "figure"),
        caption=words.text("vanishing_toy", "caption"),
    )
    return Chapter(
        "vanishing_toy",
        [picture],
        {
            "half": curves["powers"][0][50],
            "more": curves["powers"][4][50],
            "held": curves["gradient"][4][50],
        },
        holds=curves["powers"][0][50] < 1e-9 and curves["powers"][4][50] > 1e6,
        equation="h(t) = tanh(a x(t) + b h(t-1) + c)\n"
        "d h(t) / d h(t-k) = b^k (1 - h(t)^2) ... (1 - h(t-k+1)^2)",
        more="charlm inspect RUN --gradients",
        live=live.toy(words),
    )


def vanishing(lab: Lab, words: Words) -> Chapter:
    """Measure how far the gradient reaches back in the three trained cells."""
    own = lab.held_out
    medians = {}
    for cell in CELLS:
        parts = gradient_by_lag(lab.trained[cell].model, own, lags=LAGS).values()
        whole = np.sqrt(sum(part.norms**2 for part in parts))  # of an LSTM, h and c together
        medians[cell] = np.median(whole, axis=1)
    reach = {cell: _reach(median) for cell, median in medians.items()}

    def draw(axes: Axes, ink: str) -> None:
        for at, cell in enumerate(CELLS):
            axes.semilogy(
                np.maximum(medians[cell], 1e-12), color=colour_of(cell), linestyle=STYLES[at],
                label=cell,
            )  # fmt: skip
        plain_log(axes)
        axes.set_xlim(left=0)
        axes.set_xlabel("characters back, k")
        axes.set_ylabel("|d loss(t) / d state(t-k)|")
        axes.legend(loc="upper right")

    picture = Picture(
        "lecture-gradients", words.text("vanishing", "figure"),
        words.text("vanishing", "caption"),
        "Line chart on a logarithmic scale: a falling line for each cell.", on_axes(draw),
    )  # fmt: skip
    return Chapter(
        "vanishing",
        [picture],
        {cell: reach[cell] for cell in CELLS},
        holds=reach["rnn"] < min(reach["lstm"], reach["gru"]),
        more="charlm inspect RUN --gradients",
    )


def _reach(median: NDArray[np.float64]) -> int:
    """Return the first lag at which a hundredth is left, or one more than the number of lags."""
    below = np.flatnonzero(median < 0.01 * median[0])
    return int(below[0]) if below.size else len(median)
