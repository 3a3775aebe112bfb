"""`charlm score`."""

import json

import torch

from charlm.api import Loaded
from charlm.errors import UsageError
from charlm.evaluation import scoring
from charlm.terminal import console

SPLITS = {"val": "validation", "validation": "validation", "test": "test", "train": "train"}


def score(
    loaded: Loaded,
    file: str | None,
    split: str | None,
    *,
    window: int,
    threads: int | None,
    per_character: bool,
    as_json: bool,
) -> None:
    """Score a file or a split of the run's own data."""
    if threads:
        torch.set_num_threads(threads)
    if (file is None) == (split is None):
        raise UsageError("give a FILE or a --split, one of them", "charlm score RUN my.txt")
    if file is not None:
        content = scoring.content_of(file, loaded.vocabulary)
        result = scoring.text(loaded.model, loaded.vocabulary, content, window)
    else:
        if split not in SPLITS:
            raise UsageError(f"there is no split {split!r}", "the splits are val, test and train")
        result = scoring.split(loaded.checkpoint, loaded.model, SPLITS[split], window)
    if per_character:
        console.surprisal_lines(result, loaded.vocabulary)
    elif as_json:
        print(json.dumps(result.summary()))
    else:
        console.scored(result)
