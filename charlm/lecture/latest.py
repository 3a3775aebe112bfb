"""Networks of three units for the page: after every symbol they name the letter read last.

A task that needs all gates: a letter replaces the memory, a dot leaves it alone.

Symbols: T time, B lanes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.config.schema import ModelConfig
from charlm.models.recurrent import CharModel
from charlm.training.optimizer import AdamW

ALPHABET = "ab."
UNITS, STEPS, RATE = 3, 200, 0.03
TIME, LANES, LETTERS = 24, 32, 0.12
"""Symbols of a sequence, sequences of a step, and the share of letters among the symbols."""


def train(cell: str, reset_gate: str = "after") -> CharModel:
    """Train a network on random sequences, in about a second."""
    config = ModelConfig.model_validate(
        {
            "cell": cell,
            "reset_gate": reset_gate,
            "hidden_size": UNITS,
            "num_layers": 1,
            "embedding_size": 0,
        }
    )
    model = CharModel(config, len(ALPHABET))
    model.reset_parameters(0)
    optimizer = AdamW(dict(model.named_parameters()), betas=(0.9, 0.99), weight_decay=0.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        symbols, wanted = sequences(generator)
        logits, _ = model(symbols, model.initial_states(LANES))
        F.cross_entropy(logits.flatten(0, 1), wanted.flatten()).backward()  # type: ignore[no-untyped-call]
        optimizer.step(RATE, clip_norm=1.0)
    return model.requires_grad_(False)


def sequences(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw sequences that begin with a letter, and the letter last read at every place.

    Shapes: [T, B] both, indices of `ALPHABET`.
    """
    letters = torch.randint(2, (TIME, LANES), generator=generator)
    is_letter = torch.rand(TIME, LANES, generator=generator) < LETTERS
    is_letter[0] = True
    symbols = torch.where(is_letter, letters, 2)
    places = torch.arange(TIME).unsqueeze(1).expand(TIME, LANES)
    latest = torch.where(is_letter, places, 0).cummax(0).values
    return symbols, letters.gather(0, latest)
