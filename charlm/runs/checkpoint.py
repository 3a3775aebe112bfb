"""Checkpoints that survive a crash at any moment, and are verified before use.

A checkpoint is a folder of four files. It is written under a temporary name, every file is synced,
and only then is it renamed. A manifest holds size and SHA-256 of each file, because safetensors
has no checksum of its own. It contains no code: a foreign one can at worst be refused.

Importing this does not import torch: `read_arrays` reads weights for numpy.
"""

import contextlib
import hashlib
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from charlm.common import memory
from charlm.common.files import json_bytes, sync_folder, write_synced
from charlm.config.schema import Config
from charlm.runs.manifest import (
    FORMAT,
    MANIFEST,
    MODEL,
    STATE,
    TRAINING,
    UNFINISHED,
    damaged,
    promised,
    read_manifest,
    verified,
)
from charlm.runs.state import SavedState, read_state
from charlm.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

    from charlm.text.corpus import Corpus


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint. It is self-contained: its state has configuration and vocabulary."""

    folder: Path
    step: int
    config: Config
    vocabulary: Vocabulary
    state: SavedState
    weights: "dict[str, Tensor]"
    """Weights of the model for sampling and scoring (the average, if the run has one)."""
    text: "Corpus | None" = None
    """The run's text, if the user has named it because it was moved."""

    @property
    def name(self) -> str:
        """Path of the run, or of the copied checkpoint; relative if below the working directory."""
        folder, here = self.folder.absolute(), Path.cwd()
        path = folder.parent.parent if folder.parent.name == "checkpoints" else folder
        return str(path.relative_to(here) if path.is_relative_to(here) else path)

    def training(self) -> "dict[str, Tensor]":
        """Read the tensors needed to resume only: weights, optimizer, carried states."""
        manifest = read_manifest(self.folder)
        return _tensors(verified(self.folder, manifest, TRAINING), self.folder, TRAINING)


def read(folder: Path) -> Checkpoint:
    """Read and verify a checkpoint folder. Raises: CheckpointError if damaged or foreign."""
    saved, content = _read(folder)
    return replace(saved, weights=_tensors(content, folder, MODEL))


def read_arrays(folder: Path) -> tuple[Checkpoint, dict[str, NDArray[Any]]]:
    """Read and verify a checkpoint folder; return it without weights, and these as arrays.

    Raises: CheckpointError as `read`; ValueError for weights that only `read` can read or refuse.
    """
    saved, content = _read(folder)
    try:
        arrays = safetensors.numpy.load(content)
    except Exception as error:  # a foreign header may cause any exception of the library
        raise ValueError(str(error)) from None
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("there are values that are no finite numbers")
    return saved, arrays


def _read(folder: Path) -> tuple[Checkpoint, bytes]:
    """Read and verify a checkpoint; return it without weights, and the file that has them."""
    state, config = read_state(folder)
    try:
        vocabulary = Vocabulary.from_json(state.vocabulary)
    except (ValueError, RecursionError) as error:
        raise damaged(folder, f"{STATE} cannot be read: {error}") from None
    manifest = read_manifest(folder)
    _refuse_too_large(folder, manifest)
    content = verified(folder, manifest, MODEL)
    return Checkpoint(folder, state.step, config, vocabulary, state, {}), content


def _refuse_too_large(folder: Path, manifest: dict[str, Any]) -> None:
    """Refuse weights that do not fit in memory. Raises: UsageError."""
    size, _ = promised(folder, manifest, MODEL)
    with contextlib.suppress(OSError):  # an unreadable file is refused later, by its size
        if (folder / MODEL).stat().st_size == size:
            memory.refuse_more(
                2 * size,
                memory.available(),
                f"the model of {folder}",
                "use a machine with more memory, or a smaller model",
            )


def write(
    folder: Path,
    weights: "Mapping[str, Tensor]",
    training: "Mapping[str, Tensor]",
    state: SavedState,
) -> None:
    """Write a checkpoint atomically: after a crash `folder` holds all of it, or nothing new.

    Raises: OSError if the disk is full or read-only; unfinished files are removed.
    """
    from charlm.runs import tensor_file  # here: it imports torch

    content = json_bytes(state.to_json())
    temporary = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder.parent))
    try:
        # mkdtemp's mode would hide the run from its group
        temporary.chmod(stat.S_IMODE(folder.parent.stat().st_mode))
        written = {
            MODEL: tensor_file.write(temporary / MODEL, weights),
            TRAINING: tensor_file.write(temporary / TRAINING, training),
            STATE: (len(content), hashlib.sha256(content).hexdigest()),
        }
        write_synced(temporary / STATE, content)
        files = {name: {"size": size, "sha256": digest} for name, (size, digest) in written.items()}
        write_synced(temporary / MANIFEST, json_bytes({"format": FORMAT, "files": files}))
        sync_folder(temporary)
        if folder.exists() or folder.is_symlink():  # a resumed run has repeated this step
            folder.rename(temporary.with_name(f"{temporary.name}-before"))
        temporary.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_finite(tensor: "Tensor") -> bool:
    """Return True if all values are finite."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return all(bool(bound.isfinite()) for bound in tensor.aminmax())  # NaN propagates


def _tensors(content: bytes, folder: Path, name: str) -> "dict[str, Tensor]":
    """Read tensors, all of which must be finite.

    Raises: CheckpointError.
    """
    import safetensors.torch

    try:
        tensors = safetensors.torch.load(content)
    except Exception as error:  # a foreign header may cause any exception of the library
        said = f"{type(error).__name__} {error}"
        raise damaged(folder, f"{name} is not safetensors: {said}") from None
    for key, tensor in tensors.items():
        if not is_finite(tensor):
            raise damaged(folder, f"{key} in {name} has values that are no finite numbers")
    return tensors
