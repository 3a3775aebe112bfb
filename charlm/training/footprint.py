"""Estimate of the memory that training takes, before the model is made."""

import logging

import torch

from charlm.common import memory
from charlm.common.wording import byte_size
from charlm.config.schema import Config
from charlm.models.recurrent import CharModel

log = logging.getLogger(__name__)

COPIES = 5
"""Copies of a weight: itself, its gradient, two moments, and a buffer to draw or pack it."""
SAVED = 4
"""Least values saved per unit and symbol of a window for the backward pass."""
LARGE = 50_000_000
"""Parameters from which drawing the weights takes long enough to be announced."""


def bytes_needed(config: Config, vocabulary_size: int, lanes: int) -> int:
    """Return a lower bound of the bytes that training holds at once.

    lanes: number of lanes computed at once.
    """
    with torch.device("meta"):  # allocates nothing
        parameters = CharModel(config.model, vocabulary_size).parameter_count()
    model, train = config.model, config.train
    copies = COPIES + (train.weight_average > 0) + (lanes < train.lanes)  # a sum of gradients
    units = lanes * train.sequence_length * model.hidden_size * model.num_layers
    return 4 * (copies * parameters + SAVED * units)


def refuse_too_large(
    config: Config, vocabulary_size: int, device: torch.device, lanes: int, processes: int = 1
) -> None:
    """Refuse a model that does not fit in the free memory.

    lanes: number of lanes computed at once. processes: number of processes on this machine.

    Raises: UsageError.
    """
    needed = bytes_needed(config, vocabulary_size, lanes)
    model, train = config.model, config.train
    what = (
        f"training {model.num_layers} x {model.hidden_size} units on windows of "
        f"{lanes} x {train.sequence_length}"
    )
    if device.type != "cuda" and processes > 1:
        needed *= processes
        what += f" in each of {processes} processes"
    advice = "lower model.hidden_size, model.num_layers, train.batch_size or train.sequence_length"
    free = _free_on_gpu(device) if device.type == "cuda" else memory.available()
    memory.refuse_more(needed, free, what, advice)
    if needed > 4 * COPIES * LARGE:
        log.info(f"{what} takes {byte_size(needed)}; to draw the weights takes a while")


def _free_on_gpu(device: torch.device) -> int:
    """Return a GPU's free bytes, with those that torch has reserved and does not use."""
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + held
