"""The exact score of a model on a task: answers right at every symbol.

Each example is read from the initial state; at each place of the answer, the likeliest symbol is
compared with the right one, which is read next (teacher forcing).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from charlm.models.recurrent import CharModel
from charlm.text.files.tasks import Example
from charlm.text.vocabulary import Vocabulary

AT_ONCE = 64
"""Examples read side by side."""


@dataclass(frozen=True)
class Answers:
    """The score of every example.

    right: True if every symbol of the answer is right. symbols: the share of its symbols that are.

    Shapes: [N] each.
    """

    right: NDArray[np.bool_]
    symbols: NDArray[np.float64]


def answer(
    model: CharModel, vocabulary: Vocabulary, examples: Sequence[Example], *, ends: bool
) -> Answers:
    """Score a model's answers to the questions of examples, each read with its right answer.

    vocabulary: one with an end of records. ends: True if the end of the record is part of an
        answer.
    """
    found = [
        hits
        for at in range(0, len(examples), AT_ONCE)
        for hits in _hits(model, vocabulary, examples[at : at + AT_ONCE], int(ends))
    ]
    return Answers(
        np.array([hits.all() for hits in found]), np.array([hits.mean() for hits in found])
    )


@torch.inference_mode()
def _hits(
    model: CharModel, vocabulary: Vocabulary, examples: Sequence[Example], ends: int
) -> list[NDArray[np.bool_]]:
    """Return, for each symbol of each example's answer, True if the model finds it the
    likeliest. Shapes: [A]. ends: 1 if the end of the record is part of an answer, else 0."""
    assert vocabulary.end is not None
    encoded = [vocabulary.encode_records([one.line]) for one in examples]
    symbols = np.full((1 + max(map(len, encoded)), len(examples)), vocabulary.end, np.int64)
    for lane, record in enumerate(encoded):
        symbols[1 : 1 + len(record), lane] = record  # after the end of an earlier record
    read = torch.from_numpy(symbols).to(model.head.weight.device)
    logits, _ = model(read[:-1], model.initial_states(len(examples)))
    hits = (logits.argmax(-1) == read[1:]).cpu().numpy()
    counts = [len(vocabulary.encode(one.answer)) + ends for one in examples]
    last = [len(record) - 1 + ends for record in encoded]
    return [
        hits[stop - n : stop, lane] for lane, (n, stop) in enumerate(zip(counts, last, strict=True))
    ]
