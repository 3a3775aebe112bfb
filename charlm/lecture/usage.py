"""Chapters on using the cells: PyTorch's parameters and shapes, and the questions of the notes."""

import math
import warnings

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import nn

from charlm.common.errors import DataError
from charlm.inspection.context import context_use
from charlm.inspection.gradients import gradient_by_lag
from charlm.lecture.chapter import PACKAGE, Chapter
from charlm.lecture.lab import Lab
from charlm.reports.inspection.context import USED
from charlm.reports.picture import COLOURS, STYLES, Picture, on_axes, plain_log
from charlm.reports.view import Table
from charlm.reports.words import Words
from charlm.text.vocabulary import CODE_POINTS, SURROGATES

L, N, H_IN, H_OUT, LAYERS = 7, 3, 5, 4, 2
SMALL = 20_000
"""Symbols of train: a larger part of a program lacks almost no character."""
SCHEMES = ("orthogonal", "xavier", "kaiming", "uniform")


def parameters(lab: Lab, words: Words) -> Chapter:
    """List charlm's keys for the parameters of nn.LSTM."""
    names = (
        *("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout"),
        "bidirectional",
    )
    rows = [(name, *words.text("parameters", name).split(" | ")) for name in names]
    heading = tuple(words.text("parameters", "heading").split(" | "))
    return Chapter(
        "parameters", [Table(heading, rows, is_text=True)], {}, more="charlm init default"
    )


def shapes(lab: Lab, words: Words) -> Chapter:
    """List the shapes of live tensors of nn.LSTM, batched and unbatched."""
    rows = []
    for directions in (1, 2):
        for batched in (False, True):
            module = nn.LSTM(H_IN, H_OUT, LAYERS, batch_first=True, bidirectional=directions == 2)
            inputs = torch.randn(*([N] if batched else []), L, H_IN)
            with torch.inference_mode():
                output, (h_n, c_n) = module(inputs)
            label = words.text("shapes", "batched" if batched else "single")
            rows.append(
                (
                    f"{label}, D = {directions}",
                    *(str(list(one.shape)) for one in (inputs, h_n, c_n, output, h_n, c_n)),
                )
            )
    heading = ("", "input", "h_0", "c_0", "output", "h_n", "c_n")
    return Chapter(
        "shapes",
        [Table(heading, rows)],
        {"L": L, "N": N, "H_in": H_IN, "H_out": H_OUT, "layers": LAYERS},
        equation="output: [N, L, D H_out]        h_n, c_n: [D num_layers, N, H_out]",
        more="charlm.load(run).to_torch()",
    )


def output_and_last(lab: Lab, words: Words) -> Chapter:
    """Compare the last output with h_n, and the module with charlm's own cells."""
    from charlm.models.modules import to_torch

    model = lab.trained["lstm"].model
    symbols = torch.from_numpy(lab.held_out.head(50).read().astype(np.int64)).unsqueeze(1)
    own, states = model.outputs(symbols, model.initial_states(1))
    with torch.inference_mode():
        output, (h_n, _) = to_torch(model)(model.vectors(symbols))
    last = float((output[-1] - h_n[-1]).abs().max())
    module = float((output - own).abs().max())
    rows = [
        ("output[-1] - h_n[-1]", f"{last:.1e}"),
        ("nn.LSTM - charlm", f"{module:.1e}"),
        ("output", str(list(output.shape))),
        ("h_n", str(list(h_n.shape))),
    ]
    heading = tuple(words.text("output_and_last", "heading").split(" | "))
    return Chapter(
        "output_and_last",
        [Table(heading, rows)],
        {"last": last, "module": module, "states": len(states)},
        holds=last == 0 and module < 1e-5,
        more="charlm.load(run).states(text)",
    )


def initialisation(lab: Lab, words: Words) -> Chapter:
    """Measure how far the gradient reaches in fresh RNNs of different initialisations."""
    own = lab.held_out
    medians = {}
    for scheme in SCHEMES:
        by_lag = gradient_by_lag(lab.fresh("rnn", scheme), own, lags=40, lanes=32)
        medians[scheme] = np.maximum(np.median(by_lag["h"].norms, axis=1), 1e-30)
    ends = {scheme: float(median[-1]) for scheme, median in medians.items()}
    best = max(ends, key=lambda scheme: ends[scheme])

    def draw(axes: Axes, ink: str) -> None:
        for at, (scheme, median) in enumerate(medians.items()):
            axes.semilogy(median, color=COLOURS[at], linestyle=STYLES[at], label=scheme)
        plain_log(axes)
        axes.set_xlabel("characters back, k")
        axes.set_ylabel("|d loss(t) / d h(t-k)|")
        axes.legend(loc="lower left")

    picture = Picture(
        "lecture-initialisation", words.text("initialisation", "figure", {"best": best}),
        words.text("initialisation", "caption"),
        "Line chart on a logarithmic scale: a line for each initialisation.", on_axes(draw),
    )  # fmt: skip
    return Chapter(
        "initialisation",
        [picture],
        {"best": best, **ends},
        more="charlm compare rnn rnn:initialization=xavier",
    )


def early_steps(lab: Lab, words: Words) -> Chapter:
    """Measure how much of the past the trained LSTM uses."""
    train = lab.corpus.stretch("train").read()
    use = context_use(lab.trained["lstm"].model, lab.held_out, train)
    bits = use.near.mean(1) / math.log(2)
    rows = [(f"{k:,}", f"{value:.3f}") for k, value in zip(use.lengths, bits, strict=True)]
    far = np.flatnonzero(np.abs(bits - bits[-1]) > USED)
    reach = use.lengths[min(int(far[-1]) + 1, len(bits) - 1)] if far.size else 0
    heading = tuple(words.text("early_steps", "heading").split(" | "))
    return Chapter(
        "early_steps", [Table(heading, rows)], {"reach": reach}, more="charlm inspect RUN --context"
    )


def line_lengths(lab: Lab) -> np.ndarray:
    """Return the lengths of lines of the text. Raises: DataError if there are too few."""
    symbols = np.asarray(lab.corpus.symbols[lab.corpus.train.start :][:400_000])
    newline = lab.corpus.vocabulary.encode("\n")
    ends = np.flatnonzero(symbols == newline[0]) if newline.size else np.empty(0, np.int64)
    lengths = np.diff(ends)
    lengths = lengths[lengths > 1]
    if len(lengths) < 64:
        raise DataError(
            f"the text has {len(lengths)} lines, the chapter on packing takes 64",
            "give a text with more lines",
        )
    return lengths


def packing(lab: Lab, words: Words) -> Chapter:
    """Count the padding that lines of different lengths cost, sorted and packed."""
    lengths = line_lengths(lab)
    shuffled = np.random.default_rng(0).permutation(lengths)
    batch = 32
    whole = len(lengths) // batch * batch

    def padded(order: np.ndarray) -> float:
        groups = order[:whole].reshape(-1, batch)
        return 100 * float(1 - groups.sum() / (groups.max(1) * batch).sum())

    shares = {"random": padded(shuffled), "sorted": padded(np.sort(lengths)), "packed": 0.0}
    rows = [(words.text("packing", name), f"{share:.1f} %") for name, share in shares.items()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pieces = [torch.zeros(int(size)) for size in shuffled[:batch]]
        packed = nn.utils.rnn.pack_sequence(pieces, enforce_sorted=False)
    same = len(packed.data) == int(shuffled[:batch].sum())
    heading = tuple(words.text("packing", "heading").split(" | "))
    return Chapter(
        "packing",
        [Table(heading, rows)],
        {**shares, "lines": len(lengths)},
        holds=same and shares["random"] > 0,
    )


def vocabulary(lab: Lab, words: Words) -> Chapter:
    """Count the characters that a vocabulary of all splits would hide, for a small train split."""
    corpus = lab.corpus
    train = np.asarray(corpus.symbols[corpus.train.start :][:SMALL])
    held_out = lab.held_out.read()
    lacking = ~np.isin(held_out, train)
    unknown, kinds = int(lacking.sum()), len(np.unique(held_out[lacking]))
    outside = math.log2(CODE_POINTS - SURROGATES - len(np.unique(train)))
    hidden = unknown * outside / len(held_out)
    size = len(np.unique(train))
    rows = [
        (words.text("vocabulary", "train"), f"{size:,}", f"{unknown:,}"),
        (words.text("vocabulary", "all"), f"{size + kinds:,}", "0"),
    ]
    heading = tuple(words.text("vocabulary", "heading").split(" | "))
    return Chapter(
        "vocabulary",
        [Table(heading, rows)],
        {"unknown": unknown, "kinds": kinds, "bits": outside, "hidden": hidden, "size": SMALL},
        more="charlm train my.txt --dry-run",
    )


def korean(lab: Lab, words: Words) -> Chapter:
    """Train on this lecture's own Korean text by character and by jamo."""
    text = Words("ko", PACKAGE).everything()
    by_unit = lab.by_unit(text, ("char", "jamo"))
    rows = [
        (unit, f"{size:,}", f"{one.parameters:,}", f"{one.bits:.3f}")
        for unit, (one, size) in by_unit.items()
    ]
    heading = tuple(words.text("korean", "heading").split(" | "))
    bits = {unit: one.bits for unit, (one, _) in by_unit.items()}
    return Chapter(
        "korean",
        [Table(heading, rows)],
        {"characters": len(text), **bits, "better": min(bits, key=lambda unit: bits[unit])},
        more="charlm train my.txt --set data.unit=jamo",
    )
