"""Repeated stretches of a text: the symbols to which the repetition penalty applies."""

import torch
from torch import Tensor

from charlm.config.schema import REPETITION_LENGTH


def repeating(written: Tensor, vocabulary_size: int, length: int = REPETITION_LENGTH) -> Tensor:
    """Mark the symbols s for which the last `length - 1` symbols of a text, followed by s, already
    occur in it. With a length of 1 these are all symbols of the text.

    Shapes: written [N, L] (int64), result [N, V] (bool).
    """
    marks = torch.zeros(len(written), vocabulary_size, dtype=torch.bool, device=written.device)
    if written.shape[1] < length:
        return marks
    stretches = written.unfold(1, length, 1)
    last = written[:, written.shape[1] - length + 1 :]
    alike = (stretches[..., :-1] == last.unsqueeze(1)).all(-1)
    texts, places = alike.nonzero(as_tuple=True)
    marks[texts, stretches[texts, places, -1]] = True
    return marks
