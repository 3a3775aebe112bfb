"""Chapters on the GRU: both forms, its size, its speed, its accuracy."""

import numpy as np
import torch

from charlm.cells.gru import GRU
from charlm.comparison.plan import recurrent_parameters
from charlm.comparison.step_cost import measure_steps
from charlm.lecture import live
from charlm.lecture.chapter import Chapter
from charlm.lecture.lab import CELLS, WIDTH, Lab
from charlm.reports.view import Table
from charlm.reports.words import Words

GRU_EQUATION = """\
z(t) = sigma(W_z [h(t-1), x(t)])
r(t) = sigma(W_r [h(t-1), x(t)])
n(t) = tanh (W [r(t) h(t-1), x(t)])
h(t) = (1 - z(t)) h(t-1) + z(t) n(t)"""


def two_forms(lab: Lab, words: Words) -> Chapter:
    """Compute both forms of the GRU, and the sum of their kept and written shares."""
    generator = torch.Generator().manual_seed(0)
    rows, largest = [], 0.0
    for form in ("before", "after"):
        cell = GRU(4, 6, bias=False, reset_gate=form).double()
        cell.reset_parameters("orthogonal", generator)
        cell.requires_grad_(False)
        h = torch.randn(3, 6, generator=generator, dtype=torch.float64)
        x = torch.randn(3, 4, generator=generator, dtype=torch.float64)
        _, z, n = cell.activations(cell.project(x), (h,))
        keeps, writes = (1 - z, z) if form == "before" else (z, 1 - z)
        by_hand = keeps * h + writes * n
        apart = float((cell.step(x, (h,))[0] - by_hand).abs().max())
        total = float((keeps + writes - 1).abs().max())
        largest = max(largest, apart, total)
        keep, write = ("1 - z", "z") if form == "before" else ("z", "1 - z")
        rows.append((f"reset_gate = {form}", keep, write, f"{total:.1e}", f"{apart:.1e}"))
    heading = tuple(words.text("two_forms", "heading").split(" | "))
    return Chapter(
        "two_forms",
        [Table(heading, rows)],
        {"largest": largest},
        holds=largest < 1e-12,
        equation=GRU_EQUATION,
        more="charlm compare gru gru:reset_gate=before,bias=false",
        live=live.gru_gates(words),
    )


def one_three_four(lab: Lab, words: Words) -> Chapter:
    """Count the parameters of the cells at the same width."""
    size = len(lab.corpus.vocabulary)
    counts = {
        cell: recurrent_parameters(lab.config(f"model.cell={cell}").model, size) for cell in CELLS
    }
    ratios = {cell: counts[cell] / counts["rnn"] for cell in CELLS}
    rows = [(cell, f"{counts[cell]:,}", f"{ratios[cell]:g}") for cell in CELLS]
    heading = tuple(words.text("one_three_four", "heading").split(" | "))
    return Chapter(
        "one_three_four",
        [Table(heading, rows)],
        {"width": WIDTH, **ratios},
        holds=(ratios["gru"], ratios["lstm"]) == (3, 4),
        more="charlm inspect RUN",
    )


def faster(lab: Lab, words: Words) -> Chapter:
    """Time training steps of the cells at the same width, and measure their memory."""
    costs = measure_steps([lab.config(f"model.cell={cell}") for cell in CELLS], lab.corpus)
    by_cell = dict(zip(CELLS, costs, strict=True))
    rows = [
        (
            cell,
            f"{1000 * cost.seconds_a_step:.2f}",
            f"{cost.characters_per_second(1.0):,.0f}",
            "-" if cost.memory_bytes is None else f"{cost.memory_bytes / 1e6:.1f}",
        )
        for cell, cost in by_cell.items()
    ]
    ratios = [
        lstm / gru
        for lstm, gru in zip(by_cell["lstm"].step_seconds, by_cell["gru"].step_seconds, strict=True)
    ]
    times = float(np.median(ratios))
    ahead = sum(ratio > 1 for ratio in ratios)
    heading = tuple(words.text("faster", "heading").split(" | "))
    return Chapter(
        "faster",
        [Table(heading, rows)],
        {"times": times, "width": WIDTH, "ahead": ahead, "rounds": len(ratios)},
        holds=ahead >= len(ratios) - 1,
        more="charlm bench",
    )


def as_good(lab: Lab, words: Words) -> Chapter:
    """Compare the three trained cells at equal numbers of parameters."""
    rows = [
        (
            cell,
            f"{one.model.config.hidden_size}",
            f"{one.parameters:,}",
            f"{one.bits:.3f}",
            f"{one.seconds:.1f}",
        )
        for cell, one in lab.trained.items()
    ]
    bits = {cell: one.bits for cell, one in lab.trained.items()}
    heading = tuple(words.text("as_good", "heading").split(" | "))
    return Chapter(
        "as_good",
        [Table(heading, rows)],
        {**bits, "apart": bits["lstm"] - bits["gru"]},
        holds=max(bits["lstm"], bits["gru"]) < bits["rnn"],
        more="charlm compare rnn lstm gru --data my.txt",
    )
