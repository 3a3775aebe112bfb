"""A page that holds trained models and computes them: it writes, reads, shows gates and learns."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from charlm.common.errors import UsageError
from charlm.common.wording import byte_size
from charlm.exports.trained import Trained
from charlm.exports.weights import Precision, packed
from charlm.models.plain import PlainModel
from charlm.reports.page import render, script
from charlm.reports.words import Words
from charlm.runs.checkpoint import Checkpoint

SCRIPTS = (
    *("live/cells.js", "live/sampling.js", "live/model.js", "live/reader.js"),
    *("text.js", "live/column.js", "live/live.js"),
)
"""The page's scripts, each after those that it needs."""
SMALL = 1_000_000
"""Bytes of a page below which the weights stay in float32."""
LARGEST = 16_000_000
"""Most bytes of a model's weights in a page."""
LARGEST_APART = 256_000_000
"""Most bytes of a model's weights that a page fetches from a server."""
BASE64_GROWTH = 4 / 3
"""Bytes of base64 for a byte."""
SETTINGS = ("length", "temperature", "top_k", "top_p")
"""Keys of [sample] with which the page begins."""
LEAST_CORRELATION = 0.4
"""Least correlation on held-out text of a unit that the page offers by name."""


def choose_precision(
    models: Sequence[PlainModel],
    precision: Literal["auto", "float32", "int8"],
    most: int = LARGEST,
) -> tuple[Precision, int]:
    """Return the precision of the weights and their bytes: by "auto" float32 if the page stays
    below a megabyte.

    Raises: UsageError if the weights have more bytes than `most`.
    """
    count = sum(weight.size for model in models for weight in model.weights.values())
    if precision == "auto":
        precision = "float32" if 4 * count * BASE64_GROWTH < SMALL else "int8"
    size = count * (4 if precision == "float32" else 1)
    if size > most:
        raise UsageError(
            f"{count:,} weights in {precision} are {byte_size(size)}, too much for a page: "
            f"{byte_size(most)} at most",
            "export a smaller model"
            + (
                ", or --precision int8"
                if precision == "float32"
                else ", or open the page of charlm serve"
                if size <= LARGEST_APART
                else ", or write with it by charlm serve or charlm sample"
            ),
        )
    return precision, size


def refuse_other_symbols(first: Checkpoint, second: Checkpoint) -> None:
    """Check that two models can read the same text. Raises: UsageError."""
    one, other = first.vocabulary, second.vocabulary
    for name in ("unit", "normalize", "has_end"):
        mine, theirs = getattr(one, name), getattr(other, name)
        if mine != theirs:
            raise UsageError(
                f"the runs read different texts: {name} is {mine} in one, {theirs} in the other",
                "export runs whose texts were cut in the same way, or one at a time",
            )


def live_page(
    shown: Sequence[Trained],
    language: str,
    precision: Precision,
    weights: bytearray | None = None,
) -> str:
    """Make the page of one model or two. weights: those are appended to it, not held by the page,
    which fetches them from the address "weights" beside its own."""
    words = Words(language, "charlm.exports")
    names = [one.name for one in shown]
    if len(set(names)) < len(names):
        names = [f"{name} ({number})" for number, name in enumerate(names, 1)]
    models = [
        _data(one, name, words, precision)
        | {"weights": packed(one.model.weights, precision, weights)}
        for one, name in zip(shown, names, strict=True)
    ]
    title = words.text(
        "head", "title", {"name": names[0], "symbols": shown[0].model.vocabulary_size}
    )
    if len(names) > 1:
        title = words.text("head", "two", {"first": names[0], "second": names[1]})
    source, digest = script(*SCRIPTS)
    return render(
        "live/live.html.j2",
        words=words,
        title=title,
        models=models,
        data={"models": models, "words": words.sections["page"], "fetches": weights is not None},
        script=source,
        digest=digest,
    )


def _data(one: Trained, name: str, words: Words, precision: Precision) -> dict[str, Any]:
    """Return a model's part of the page's data, without its weights."""
    config, model = one.saved.config, one.model
    return {
        "name": name,
        "says": _about(one, name, words, precision),
        "kind": model.variant,
        "equations": words.text("equations", model.variant),
        "hidden_size": model.config.hidden_size,
        "num_layers": model.config.num_layers,
        "embedding_size": model.config.embedding_size,
        "vocabulary": one.saved.vocabulary.to_json(),
        "sample": {name: getattr(config.sample, name) for name in SETTINGS},
        "units": [
            asdict(unit) | {"feature": words.text("features", unit.feature)}
            for unit in one.units
            if abs(unit.held_out) >= LEAST_CORRELATION
        ],
    }


def _about(one: Trained, name: str, words: Words, precision: Precision) -> str:
    """Return the sentence on a model at the head of the page."""
    saved, model = one.saved, one.model
    paths = saved.config.data.path
    path = paths if isinstance(paths, str) else paths[0] if len(paths) == 1 else f"{len(paths)} ×"
    best = saved.state.progress.get("best") or {}
    is_held_out = saved.config.data.split[1] > 0 and best.get("step") == saved.step
    bits = best.get("bits_per_character") if is_held_out else None
    trained = {"text": Path(path).name.removeprefix("builtin:"), "steps": saved.step}
    return words.text(
        "head",
        "about",
        {
            "title": name,
            "cell": model.config.cell.upper(),
            "layers": model.config.num_layers,
            "units": model.config.hidden_size,
            "parameters": sum(weight.size for weight in model.weights.values()),
            "precision": words.text("head", "int8") if precision == "int8" else "",
            "trained": words.text("head", "trained", trained),
            "bits": words.text("head", "bits", {"bits": bits}) if isinstance(bits, float) else "",
        },
    )
