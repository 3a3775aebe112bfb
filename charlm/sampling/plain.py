"""Sampling by the kernels from the weights alone, without torch."""

from collections.abc import Collection

from charlm.common.errors import UsageError
from charlm.models.plain import PlainModel
from charlm.native.interface import Kernels
from charlm.native.library import SMALLEST, built
from charlm.native.writing import NativeSampler, SampledCell, SampledParts

PRECISIONS = ("auto", "float32", "bfloat16", "int8")


def resolve_precision(kernels: Kernels | None, precision: str, variants: Collection[str]) -> str:
    """Return the precision of the weights for sampling.

    kernels: for the model; None for torch. precision: "auto" is bfloat16 if there are kernels, and
        the processor supports it, else float32. variants: of the model's cells.

    Raises: UsageError for an unavailable precision.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision} is not known", f"use {', '.join(PRECISIONS)}")
    if precision == "auto":
        precision = "bfloat16" if kernels and "bfloat16" in kernels.types else "float32"
    if precision != "float32" and (kernels is None or precision not in kernels.types):
        raise UsageError(
            f"weights in {precision} need the native kernels, which are not here for this model",
            "use --precision float32, or train a model on this machine first",
        )
    if precision == "int8" and "rnn_relu" in variants:
        raise UsageError(
            "weights in int8 need states between -1 and 1, relu has none", "use bfloat16"
        )
    return precision


def kernels_for(model: PlainModel) -> Kernels | None:
    """Return the kernels if they are compiled, and for such a model; else None."""
    if model.config.hidden_size < SMALLEST or not model.fits():
        return None
    kernels = built()
    return kernels if kernels and model.variant in kernels.kinds else None


def make_sampler(
    kernels: Kernels, model: PlainModel, num: int, precision: str = "auto"
) -> NativeSampler:
    """Make a sampler for `num` texts. Raises: UsageError: see `resolve_precision`."""
    weights = model.weights
    layers = range(model.config.num_layers)
    cells = [SampledCell.of(model.variant, model.cell(layer)) for layer in layers]
    head = weights["head.weight"], weights["head.bias"]
    parts = SampledParts(cells, weights.get("embedding.weight"), *head, model.end)
    name = resolve_precision(kernels, precision, {model.variant})
    return NativeSampler(kernels, name, parts, num)
