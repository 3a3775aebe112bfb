"""Checkpoints that survive a crash at any moment, and are verified before they are used.

A checkpoint is a folder of four files. It is written under a temporary name, every file is synced,
and only then is it renamed. A manifest holds size and SHA-256 of each file, because safetensors
has no checksum of its own. Nothing in it is code: one from a stranger can at worst be refused.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from charlm.config import loading
from charlm.config.schema import Config
from charlm.errors import ConfigError
from charlm.files import json_bytes, sync_folder, write_synced
from charlm.runs.manifest import (
    FORMAT,
    MANIFEST,
    MODEL,
    STATE,
    TRAINING,
    damaged,
    read_manifest,
    verified,
)
from charlm.text.vocabulary import Vocabulary

UNFINISHED = ".writing-"
"""How the names of folders begin that are not yet checkpoints."""


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint. It stands alone: configuration and vocabulary are in its state."""

    folder: Path
    step: int
    config: Config
    vocabulary: Vocabulary
    state: dict[str, Any]
    weights: dict[str, Tensor]
    """Of the model that is sampled and scored (averaged, where the run averages)."""

    def training(self) -> dict[str, Tensor]:
        """Read the tensors that only continuing needs: weights, optimizer, carried states."""
        return _tensors(verified(self.folder, read_manifest(self.folder), TRAINING), self.folder)


def read(folder: Path) -> Checkpoint:
    """Read and verify a checkpoint folder. Raises: CheckpointError, damaged or foreign."""
    manifest = read_manifest(folder)
    try:
        state = json.loads(verified(folder, manifest, STATE))
        config = loading.from_toml(state["config"], f"{folder / STATE}")
        vocabulary, step = Vocabulary.from_json(state["vocabulary"]), int(state["step"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigError) as error:
        raise damaged(folder, f"{STATE} cannot be read: {error}") from None
    weights = _tensors(verified(folder, manifest, MODEL), folder)
    return Checkpoint(folder, step, config, vocabulary, state, weights)


def write(
    folder: Path,
    weights: Mapping[str, Tensor],
    training: Mapping[str, Tensor],
    state: Mapping[str, Any],
) -> None:
    """Write a checkpoint so that `folder` holds all of it or, after a crash, nothing new.

    Raises: OSError where the disk is full or read-only; nothing is left behind.
    """
    contents = {
        MODEL: safetensors.torch.save(dict(weights)),
        TRAINING: safetensors.torch.save(dict(training)),
        STATE: json_bytes(state),
    }
    files = {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    }
    contents[MANIFEST] = json_bytes({"format": FORMAT, "files": files})
    temporary = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder.parent))
    try:
        temporary.chmod(0o755)  # mkdtemp's own mode would hide the run from its group
        for name, content in contents.items():
            write_synced(temporary / name, content)
        sync_folder(temporary)
        if folder.exists():  # of a step that a resumed run has taken again
            shutil.rmtree(folder)
        temporary.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _tensors(content: bytes, folder: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise damaged(folder, f"not safetensors: {error}") from None
