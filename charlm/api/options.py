"""Options of the functions, as keywords. Importing this does not import torch."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from charlm.common.errors import UsageError
from charlm.common.files import refuse_no_file
from charlm.common.wording import suggestion

PathLike = str | os.PathLike[str]
SPLITS = {"val": "validation", "validation": "validation", "test": "test", "train": "train"}


class LoadOptions(TypedDict, total=False):
    """Options of `load`, also for a run that `sample`, `score` or `inspect` loads."""

    which: str | int
    device: str
    data: PathLike | Sequence[PathLike]


class WritingOptions(TypedDict, total=False):
    """Options of sampling. The run's values are the defaults of the first six, which are the keys
    of `[sample]`; the others are those of `Draw`, except `num`. Units: length in symbols."""

    length: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    seed: int
    stop: str
    threads: int
    precision: str


class SampleOptions(WritingOptions, LoadOptions, total=False):
    """Options of `sample`, in addition to those of `WritingOptions` and `LoadOptions`.

    num: number of texts. best_of: candidates for each text, see `sampling.best`. with_: other
    runs, or "ngram", whose predictions are mixed in. adapt: True learns from the prompt first.
    clamps: as in "0.17=2.5" for layer 0, unit 17. novel: True draws until no text is a record of
    the run's own.
    """

    num: int
    best_of: int
    with_: Sequence[PathLike]
    adapt: bool
    clamps: Sequence[str]
    novel: bool


class ScoreOptions(LoadOptions, total=False):
    """Options of `score`, in addition to those of `LoadOptions`.

    window: symbols of a window, each read from the zero state; 0 reads the whole statefully.
    with_: other runs, or "ngram", whose predictions are mixed in. adapt: True learns from the text
    while reading it. html: a page to write, the text coloured by surprisal. encoding: of
    the file, a codec of Python; that of the run's text if left out.
    """

    window: int
    with_: Sequence[PathLike]
    adapt: bool
    html: PathLike
    encoding: str


def refuse_unknown(options: Mapping[str, object], known: type) -> None:
    """Check that all options are keys of a TypedDict. Raises: UsageError."""
    names = sorted(known.__annotations__)
    for name in options:
        if name not in names:
            raise UsageError(
                f"there is no option {name!r}{suggestion(name, names)}",
                f"the options are {', '.join(names)}",
            )


def refuse_texts(
    file: PathLike | Sequence[PathLike] | None,
    split: str | None,
    options: ScoreOptions,
    *,
    several: bool = False,
) -> None:
    """Check that there is a text for `score`, and one kind of it. several: True for documents.

    Raises: UsageError; also as `refuse_contradictions`.
    """
    if several and split is not None:
        raise UsageError(
            f"--split {split} is one text, not documents", "name files: charlm score RUN FILE..."
        )
    if (file is None) == (split is None):
        raise UsageError("give a file or a split, one of them", 'charlm.score(run, split="val")')
    if split is not None and split not in SPLITS:
        raise UsageError(f"no split is called {split!r}", f"use one of {', '.join(SPLITS)}")
    if not several:
        assert file is None or isinstance(file, str | os.PathLike)
        refuse_contradictions(file, split, options)
        return
    if file is not None and not paths_of(file):
        raise UsageError("no document is given", "list one file at least")
    if options.get("html") is not None:
        raise UsageError("--html writes one text by one run", "name one FILE, or leave --html out")
    refuse_contradictions(None, None, options)


def refuse_contradictions(file: PathLike | None, split: str | None, options: ScoreOptions) -> None:
    """Check that no options of `score` exclude each other, nor the text. Raises: UsageError."""
    window, html = options.get("window", 0), options.get("html")
    if window < 0:
        raise UsageError(f"window = {window} is no number of symbols", "0 reads statefully")
    if options.get("adapt") and window:
        raise UsageError("--adapt and --window go one at a time", "leave one of them out")
    if options.get("adapt") and split == "train":
        raise UsageError(
            "--adapt chooses its pace on the train split, so it cannot be judged there",
            "score val, test or a file",
        )
    text = None if file is None else str(file)
    refuse_no_file(None if html is None else Path(html), "--html", text)


def paths_of(data: PathLike | Sequence[PathLike]) -> list[str]:
    """List files or folders as strings."""
    return [os.fspath(path) for path in ([data] if isinstance(data, str | os.PathLike) else data)]
