"""`charlm score`."""

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from charlm import api
from charlm.errors import UsageError
from charlm.evaluation.adaptation import Pace
from charlm.evaluation.mixture import Mixture
from charlm.evaluation.scoring import (
    corpus_of,
    network,
    pieces_of,
    score_pieces,
    score_split,
    size_of,
    summary,
)
from charlm.evaluation.surprisal import Reader
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
    others: Sequence[str],
    adapt: bool,
    which: str,
    device: str,
    threads: int | None,
    per_character: bool,
    as_json: bool,
) -> None:
    """Score a file or a split of the run's own data."""
    console.show_log(quiet=True)
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
    vocabulary = loaded.vocabulary
    read, paces = _reader(loaded, split, window, others, adapt=adapt)
    each = partial(terminal.surprisal_lines, vocabulary) if per_character else _nothing
    with terminal.ScoringProgress(size_of(file) if file else None) as progress:
        if file is not None:
            pieces = pieces_of(file, vocabulary)
            result = score_pieces(
                read, vocabulary, pieces, window, each=each, advanced=progress.advanced
            )
        else:
            assert split is not None
            encoded = corpus_of(loaded.checkpoint, "score the file itself")
            result = score_split(
                read, encoded, SPLITS[split], window, each=each, advanced=progress.advanced
            )
    if per_character:
        return
    powers = read.mean_powers() if isinstance(read, Mixture) else {}
    if as_json:
        console.print_json(summary(result, window, powers, adapted=adapt))
    else:
        terminal.scored(result, vocabulary, window, powers, paces)


def _reader(
    loaded: api.Loaded, split: str | None, window: int, others: Sequence[str], *, adapt: bool
) -> tuple[Reader, dict[str, Pace]]:
    """Return what reads the text, the model alone or with others, and the pace of those that go on
    learning."""
    if adapt and window:
        raise UsageError("--adapt and --window go one at a time", "leave one of them out")
    if adapt and split == "train":
        raise UsageError(
            "--adapt chooses its pace on the train split, so it cannot be judged there",
            "score val, test or a file",
        )
    if adapt:
        console.print_status("choosing how fast to adapt, on the run's train split")
    if others:
        mixed = loaded.mixed_with(others)
        readers = mixed.adaptive() if adapt else {}
        return mixed.mixture(readers), {name: one.pace for name, one in readers.items()}
    if adapt:
        reader = loaded.adaptive()
        return reader, {"the model": reader.pace}
    return network(loaded.model), {}


def _nothing(*_: object) -> None:
    """Take a segment, and leave it."""
