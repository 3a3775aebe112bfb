"""One step of any cells as the body of ONNX's Scan node, written by torch's exporter.

Symbols: B lanes, L layers, I input size, H hidden size.
"""

import logging
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from charlm.common.errors import UsageError
from charlm.models.recurrent import CharModel

if TYPE_CHECKING:
    import onnx


class _Step(nn.Module):
    """All layers over one symbol. Shapes: every part of the states [L, B, ...], x [B, I]."""

    def __init__(self, model: CharModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, states: tuple[Tensor, ...], x: Tensor) -> tuple[Tensor, ...]:
        """Return the parts of the states after it, and the last layer's output, [B, H]."""
        after = []
        for layer, cell in enumerate(self.model.layers()):
            after.append(cell.step(x, tuple(part[layer] for part in states)))
            x = after[-1][0]
        return *map(torch.stack, zip(*after, strict=True)), x


def initial_parts(model: CharModel) -> dict[str, Tensor]:
    """Return the parts of the states before any text, for one lane, [L, 1, ...] each."""
    states = zip(*model.initial_states(1), strict=True)
    return dict(zip(model.layers()[0].state_parts, map(torch.stack, states), strict=True))


def step_graph(model: CharModel, opset: int) -> "onnx.GraphProto":
    """Return the graph of one step, without the stack traces that torch's exporter adds. Inputs:
    the states, then x; outputs: as of `_Step`.

    Raises: ModuleNotFoundError without the package onnxscript; UsageError for a step that the
    exporter cannot write.
    """
    import onnxscript  # noqa: F401  (torch's exporter needs it, and says so only in a long trace)
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    parts, lanes = initial_parts(model), 2
    states = tuple(part.expand(-1, lanes, *part.shape[2:]).contiguous() for part in parts.values())
    x = model.vectors(torch.zeros(lanes, dtype=torch.int64))
    shapes: dict[str, Any] = {"states": tuple({1: "B"} for _ in states), "x": {0: "B"}}
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    try:
        exporter.setLevel(logging.ERROR)  # it warns of packages that no model here uses
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _Step(model).eval(),
                (states, x),
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=[*(f"{name}_before_step" for name in parts), "x_of_step"],
                output_names=[*(f"{name}_after_step" for name in parts), "y_of_step"],
                opset_version=opset,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError:
        raise UsageError(
            f"torch's exporter cannot write a step of {model.config.cell} for ONNX",
            "export it --to hub, or compute the step without branches on values",
        ) from None
    finally:
        exporter.setLevel(level)
    assert program is not None
    ClearMetadataAndDocStringPass()(program.model)  # stack traces, with paths of this machine
    graph: onnx.GraphProto = program.model_proto.graph
    return graph
