"""Memorization: the bits of a random text that a run's parameters hold.

A random text cannot be predicted. So each bit by which the surprisal is below that of a uniform
guess must be stored in the parameters.

Source: Collins et al. 2017 (arXiv 1611.09913), section 2, for labels of random inputs; here the
text itself is memorized.
"""

import math
from pathlib import Path

import numpy as np

from charlm.backends.step import TorchComputation
from charlm.common.files import replace
from charlm.evaluation.surprisal import evaluate
from charlm.models.recurrent import CharModel
from charlm.runs import checkpoint
from charlm.runs.directory import RunDirectory
from charlm.text.corpus import Corpus

LETTERS = "abcdefghijklmnop"
BITS = math.log2(len(LETTERS))
"""Information in each letter of a random text."""
TRAIN_SHARE = 0.9


def random_text(parameters: int, bits_per_parameter: float) -> str:
    """Draw a text whose train split holds `bits_per_parameter`; it is the same at every call."""
    length = math.ceil(parameters * bits_per_parameter / BITS / TRAIN_SHARE)
    draws = np.random.default_rng(length).integers(len(LETTERS), size=length)
    return "".join(LETTERS[draw] for draw in draws)


def write_random_text(folder: Path, parameters: int, bits_per_parameter: float) -> Path:
    """Write, if it is missing, the random text for networks of `parameters`; return its path."""
    content = random_text(parameters, bits_per_parameter).encode()
    path = folder / f"random-{len(content)}.txt"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_bytes() != content:
        replace(path, content)
    return path


def random_settings() -> list[str]:
    """List the settings that train on nine tenths of a random text."""
    rest = round(1 - TRAIN_SHARE, 6)
    return [f"data.split=[{TRAIN_SHARE},{rest},0.0]", "data.held_out_limit=0"]


def memorized(run: Path, corpus: Corpus) -> float:
    """Return the bits of the train split that a run's last weights hold, per parameter.

    Raises: CheckpointError for a damaged run.
    """
    saved = checkpoint.read(RunDirectory(run).find("latest"))
    model = CharModel.from_weights(
        saved.config.model, len(saved.vocabulary), saved.weights, saved.vocabulary.end
    )
    _, score = evaluate(TorchComputation(model), corpus, "train")
    known = score.characters * (BITS - score.bits_per_character)
    return known / model.parameter_count()
