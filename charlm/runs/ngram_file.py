"""The file of a run's n-gram model, counted once on the train split.

It is written like a checkpoint: under a temporary name, synced, then renamed, with a manifest of
sizes and digests. It is used only if all counts are consistent with a text.
"""

import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch

from charlm.common.files import json_bytes, sweep, sync_folder, write_synced
from charlm.models.ngram import GramCounts, NGram
from charlm.runs import tensor_file
from charlm.runs.manifest import MANIFEST, UNFINISHED, damaged, read_manifest, verified

FORMAT = "charlm-ngram-1"
FOLDER, COUNTS = "ngram", "counts.safetensors"
MOST_OFTEN = 10**9
"""Most occurrences of a gram: their sums over a file stay exact."""
PARTS = ("grams", "contexts", "counts")


def write(run: Path, model: NGram, corpus: str) -> None:
    """Store a model in a run. corpus: the fingerprint of the counted text.

    Raises: OSError.
    """
    tensors = {
        f"{length}.{part}": torch.from_numpy(getattr(counted, part))
        for length, counted in enumerate(model.counted, start=1)
        for part in PARTS
    }
    sweep(run, f"{UNFINISHED}*")
    temporary = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=run))
    try:
        temporary.chmod(stat.S_IMODE(run.stat().st_mode))
        size, digest = tensor_file.write(temporary / COUNTS, tensors)
        manifest = {
            "format": FORMAT,
            "corpus": corpus,
            "files": {COUNTS: {"size": size, "sha256": digest}},
        }
        write_synced(temporary / MANIFEST, json_bytes(manifest))
        sync_folder(temporary)
        if (run / FOLDER).exists() or (run / FOLDER).is_symlink():
            (run / FOLDER).rename(temporary / FOLDER)
        temporary.rename(run / FOLDER)
        sync_folder(run)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read(run: Path, corpus: str, vocabulary_size: int) -> NGram:
    """Read a run's model. Raises: CheckpointError if missing, damaged or of another text."""
    folder = run / FOLDER
    manifest = read_manifest(folder, FORMAT)
    if manifest.get("corpus") != corpus:
        raise damaged(folder, "it counts another text")
    content = verified(folder, manifest, COUNTS)
    try:
        arrays = safetensors.numpy.load(content)
        order = len(arrays) // len(PARTS)
        counted = [
            GramCounts(*(arrays.pop(f"{length}.{part}") for part in PARTS))
            for length in range(1, order + 1)
        ]
        if arrays or not counted:
            raise ValueError("its tensors are not those of counts")
        _refuse_impossible(counted, vocabulary_size)
    except Exception as error:  # a foreign header may cause any exception of the library
        raise damaged(folder, f"{COUNTS}: {type(error).__name__} {error}") from None
    return NGram(counted, vocabulary_size)


def _refuse_impossible(counted: list[GramCounts], vocabulary_size: int) -> None:
    """Check that counts are consistent with a text. Raises: ValueError."""
    shorter = 1
    for level in counted:
        parts: list[Any] = [level.grams, level.contexts, level.counts]
        if any(part.dtype != np.int64 or part.ndim != 1 for part in parts):
            raise ValueError("a tensor is not one row of int64")
        if len({len(part) for part in parts}) > 1 or not len(level.grams):
            raise ValueError("its tensors are not equally long")
        if (level.grams[1:] <= level.grams[:-1]).any() or level.grams[0] < 0:  # no difference wraps
            raise ValueError("the grams are not in order")
        if level.grams[-1] >= vocabulary_size * shorter:
            raise ValueError("a gram has a symbol outside the vocabulary")
        if level.contexts.min() < 0 or level.contexts.max() >= shorter:
            raise ValueError("there is no such context")
        if level.counts.min() < 1 or level.counts.max() > MOST_OFTEN:
            raise ValueError("a gram is counted less than once, or oftener than any text holds it")
        shorter = len(level.grams)
