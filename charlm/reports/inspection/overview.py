"""Overview of a run: its configuration, parameters, learning curve and gates."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from charlm.config.schema import Config, to_toml
from charlm.inspection.gates import Saturation
from charlm.reports.picture import COLOURS, Picture, on_axes, plain_log, short
from charlm.reports.view import Block, Section, Table, View, Written
from charlm.text.vocabulary import Vocabulary

MOST_SAMPLES = 6


def overview(
    name: str,
    config: Config,
    vocabulary: Vocabulary,
    weights: Mapping[str, Tensor],
    metrics: Sequence[Mapping[str, Any]],
    saturated: Sequence[Saturation],
) -> View:
    """Show a run. metrics: the rows of metrics.jsonl. saturated: of its gates; empty if they were
    not measured."""
    evaluated = "validation" if config.data.split[1] else "the train split"
    evals, trained, samples = (
        [row for row in metrics if row["kind"] == kind and _is_whole(row)]
        for kind in ("eval", "train", "sample")
    )
    samples = [row for row in samples if isinstance(row.get("text"), str)]
    tensors = [_tensor(key, value) for key, value in weights.items()]
    total = sum(one["size"] for one in tensors)
    sections = [
        Section("How it learned", _curves(evals, trained, evaluated)),
        Section("Samples during training", [*map(_sample, _spread(samples, MOST_SAMPLES))]),
        Section("Gates", _gates(saturated)),
        Section("Parameters", [_parameters(tensors, total)]),
        Section("Vocabulary", [_vocabulary(vocabulary)]),
        Section("Configuration", [Written("Resolved, as the run keeps it.", to_toml(config))]),
    ]
    best = min(evals, key=lambda row: row["bits_per_character"]) if evals else None
    title = f"{name}: {total:,} parameters"
    if best:
        title += f", {best['bits_per_character']:.3f} bits per character at step {best['step']:,}"
    return View(
        "overview",
        title,
        _sentences(evals, trained, saturated, evaluated),
        [section for section in sections if section.blocks],
        {
            "parameters": total,
            "tensors": tensors,
            "vocabulary_size": len(vocabulary),
            "curve": [{key: row[key] for key in _CURVE} for row in evals],
            "saturation": [saturation_row(one) for one in saturated],
        },
    )


_CURVE = ("step", "characters", "loss", "bits_per_character")


def saturation_row(one: Saturation) -> dict[str, Any]:
    """Return the mean shares of the time in which a layer's gate is shut and open."""
    return {
        "layer": one.layer,
        "gate": one.gate,
        "left_saturated": round(float(one.shut.mean()), 4),
        "right_saturated": round(float(one.open.mean()), 4),
    }


def saturation_table(saturated: Sequence[Saturation]) -> Table:
    """Return the table of the shares of the time in which gates are shut and open."""
    rows = [
        (
            f"layer {one.layer}, {one.gate}",
            f"{100 * one.shut.mean():.0f} %",
            f"{100 * one.open.mean():.0f} %",
            f"{int((one.shut > 0.9).sum())}",
            f"{int((one.open > 0.9).sum())}",
        )
        for one in saturated
    ]
    heading = ("gate", "below 0.1 (shut)", "above 0.9 (open)", "units always shut", "always open")
    return Table(heading, rows, "Share of the time on validation text, the mean over the units.")


def _is_whole(row: Mapping[str, Any]) -> bool:
    """Return True if a row, which may be from a foreign run, has valid numbers."""
    return all(_is_number(row.get(key)) for key in _CURVE)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 2**53  # nan is not


def _spread(rows: Sequence[Any], most: int) -> list[Any]:
    """Choose evenly spread rows, including the first and the last."""
    if len(rows) <= most:
        return list(rows)
    return [rows[int(at)] for at in np.linspace(0, len(rows) - 1, most)]


def _sample(row: Mapping[str, Any]) -> Written:
    return Written(f"step {row['step']:,}, {row['bits_per_character']:.3f} bits", row["text"])


def _sentences(
    evals: Sequence[Mapping[str, Any]],
    trained: Sequence[Mapping[str, Any]],
    saturated: Sequence[Saturation],
    evaluated: str,
) -> list[str]:
    sentences = []
    if len(evals) > 1:
        best = min(evals, key=lambda row: row["loss"])
        gained = evals[-1]["loss"] - best["loss"]
        if best is evals[-1]:
            sentences.append(
                "It was still learning when it stopped: its last evaluation is its best."
            )
        else:
            sentences.append(
                f"Its best evaluation is step {best['step']:,}; at the end it was "
                f"{gained:.3f} nats worse."
            )
    if trained and evals:
        apart = evals[-1]["loss"] - trained[-1]["loss"]
        sentences.append(
            f"At the end the loss was {trained[-1]['loss']:.3f} nats in training and "
            f"{evals[-1]['loss']:.3f} on {evaluated}, {abs(apart):.3f} apart."
        )
    for one in saturated:
        if one.gate in ("f", "z"):
            sentences.append(
                f"Layer {one.layer}: gate {one.gate} is shut {100 * one.shut.mean():.0f} % and "
                "open "
                f"{100 * one.open.mean():.0f} % of the time."
            )
    return sentences


def _curves(
    evals: Sequence[Mapping[str, Any]], trained: Sequence[Mapping[str, Any]], evaluated: str
) -> list[Block]:
    blocks: list[Block] = []
    if evals:
        low = min(row["bits_per_character"] for row in evals)
        blocks.append(
            Picture(
                "learning-curve",
                f"{evaluated.capitalize()} falls to {low:.3f} bits per character",
                "Bits per character against characters read. The thin line is the loss in "
                "training, "
                "with dropout where there is any.",
                f"Line chart: from {evals[0]['bits_per_character']:.3f} bits to {low:.3f}.",
                on_axes(lambda axes, ink: _draw_curve(axes, evals, trained)),
            )
        )
    norms = [row for row in trained if _is_number(row.get("gradient_norm"))]
    if norms:
        last = norms[-1]["gradient_norm"]
        blocks.append(
            Picture(
                "gradient-norm",
                f"The gradient's norm ends at {last:.2f}",
                "Of all parameters, before clipping; of the last step of each line of the log.",
                "Line chart on a logarithmic scale: the gradient's norm against steps.",
                on_axes(lambda axes, ink: _draw_norm(axes, norms)),
            )
        )
    return blocks


def _draw_curve(
    axes: Axes, evals: Sequence[Mapping[str, Any]], trained: Sequence[Mapping[str, Any]]
) -> None:
    if trained:
        x = [row["characters"] for row in trained]
        axes.plot(
            x, [row["bits_per_character"] for row in trained], color=COLOURS[1], linewidth=0.8,
            alpha=0.7, label="training",
        )  # fmt: skip
    x = [row["characters"] for row in evals]
    y = [row["bits_per_character"] for row in evals]
    axes.plot(x, y, color=COLOURS[0], marker="o", markersize=4, label="evaluation")
    top = max(y) + 0.6 * (max(y) - min(y) + 0.1)
    axes.set_ylim(min(min(y), *(r["bits_per_character"] for r in trained[-5:]), min(y)) - 0.05, top)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.set_xlabel("characters read")
    axes.set_ylabel("bits per character")
    axes.legend(loc="upper right")


def _draw_norm(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    x = [row["step"] for row in rows]
    axes.semilogy(
        x, [max(row["gradient_norm"], 1e-12) for row in rows], color=COLOURS[0], linewidth=0.8
    )
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    plain_log(axes)
    axes.set_xlabel("step")
    axes.set_ylabel("norm")


def _gates(saturated: Sequence[Saturation]) -> list[Block]:
    return [saturation_table(saturated)] if saturated else []


def _tensor(name: str, value: Tensor) -> dict[str, Any]:
    flat = value.double()
    return {
        "name": name,
        "shape": list(value.shape),
        "size": value.numel(),
        "norm": round(float(flat.norm()), 4),
        "standard_deviation": round(float(flat.std(correction=0)), 4),
        "largest": round(float(flat.abs().max()), 4),
    }


def _parameters(tensors: Sequence[Mapping[str, Any]], total: int) -> Table:
    rows = [
        (
            one["name"],
            " x ".join(map(str, one["shape"])),
            f"{one['size']:,}",
            f"{100 * one['size'] / total:.1f} %",
            f"{one['norm']:.2f}",
            f"{one['standard_deviation']:.3f}",
            f"{one['largest']:.2f}",
        )
        for one in tensors
    ]
    heading = ("tensor", "shape", "numbers", "share", "norm", "standard deviation", "largest")
    return Table(heading, rows)


def _vocabulary(vocabulary: Vocabulary) -> str:
    if vocabulary.unit == "byte":
        return "All 256 bytes."
    shown = " ".join(
        {"\n": "newline", " ": "space", "\t": "tab"}.get(symbol, symbol)
        for symbol in map(chr, vocabulary.code_points[:400])
    )
    more = f" and {len(vocabulary.code_points) - 400:,} more" if len(vocabulary) > 401 else ""
    unknown = ", and one symbol for all others" if vocabulary.has_unknown else ""
    unit = "jamo" if vocabulary.unit == "jamo" else "characters"
    return f"{len(vocabulary.code_points):,} {unit}{unknown}: {shown}{more}"
