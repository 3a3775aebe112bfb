"""Conversion of a model's cells to one of PyTorch's modules."""

from collections.abc import Callable

import torch
from torch import nn

from charlm.common.errors import UsageError
from charlm.models.recurrent import CharModel


@torch.no_grad()
def to_torch(model: CharModel) -> nn.RNNBase:
    """Return an `nn.LSTM`, `nn.GRU` or `nn.RNN` with copies of a model's cells: from the first
    cell's input vectors it computes the same outputs and states.

    Shapes: input [T, B, E], output [T, B, H], as without batch_first.

    Raises: UsageError for cells without a module in PyTorch.
    """
    config = model.config
    kinds: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
    if config.cell not in kinds or (config.cell == "gru" and config.reset_gate == "before"):
        which = f"a {config.cell} with reset_gate before" if config.cell == "gru" else config.cell
        raise UsageError(
            f"PyTorch has no module for {which}", "its modules are nn.RNN, nn.LSTM and nn.GRU"
        )
    first = model.layers()[0]
    options = {"nonlinearity": config.nonlinearity} if config.cell == "rnn" else {}
    module = kinds[config.cell](
        first.input_size, config.hidden_size, config.num_layers, bias=config.bias, **options
    ).to(model.head.weight)
    for layer, cell in enumerate(model.layers()):
        for name, value in cell.named_parameters():
            getattr(module, f"{name}_l{layer}").copy_(value)
    return module
