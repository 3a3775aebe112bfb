"""`charlm score`."""

import shlex
from pathlib import Path

import torch

from charlm import api
from charlm.errors import UsageError
from charlm.evaluation.scoring import content_of, score_split, score_text
from charlm.runs.finding import is_run
from charlm.terminal import console
from charlm.terminal import score as terminal

SPLITS = {"val": "validation", "validation": "validation", "test": "test", "train": "train"}


def score(
    run: Path | None,
    file: str | None,
    split: str | None,
    *,
    window: int,
    which: str,
    device: str,
    threads: int | None,
    per_character: bool,
    as_json: bool,
) -> None:
    """Score a file or a split of the run's own data."""
    if threads:
        torch.set_num_threads(threads)
    if run is not None and file is None and split is None and not run.is_dir():
        run, file = None, str(run)  # a single argument that is no run is the text
    if run is not None and file is not None and run.is_file() and is_run(Path(file)):
        right = shlex.join(["charlm", "score", file, str(run)])
        raise UsageError(f"{run} is a text and {file} a run: the run comes first", right)
    if (file is None) == (split is None):
        raise UsageError("give a FILE or a --split, one of them", "charlm score RUN my.txt")
    loaded = api.load(run, which=which, device=device)
    if file is not None:
        content = content_of(file, loaded.vocabulary)
        result = score_text(loaded.model, loaded.vocabulary, content, window)
    else:
        assert split is not None
        result = score_split(loaded.checkpoint, loaded.model, SPLITS[split], window)
    if per_character:
        terminal.surprisal_lines(result)
    elif as_json:
        console.print_json(result.summary())
    else:
        terminal.scored(result)
