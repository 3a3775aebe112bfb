"""Checkpoints that survive a crash at any moment, and are verified before they are believed.

A checkpoint is a folder of four files. It is written under a temporary name, every file is synced,
and only then is it renamed. A manifest holds size and SHA-256 of each file, because safetensors
has no checksum of its own. Nothing in it is code: one from a stranger can at worst be refused.
"""

import hashlib
import json
import os
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
from charlm.errors import CheckpointError, ConfigError
from charlm.text.vocabulary import Vocabulary

FORMAT = "charlm-checkpoint-1"
MODEL, TRAINING, STATE, MANIFEST = (
    "model.safetensors",
    "training.safetensors",
    "state.json",
    "manifest.json",
)
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
        """The tensors that only continuing needs: weights, optimizer, carried states."""
        return _tensors(_verified(self.folder, _manifest(self.folder), TRAINING), self.folder)


def read(folder: Path) -> Checkpoint:
    """Read and verify a checkpoint folder. Raises: CheckpointError, damaged or foreign."""
    manifest = _manifest(folder)
    try:
        state = json.loads(_verified(folder, manifest, STATE))
        config = loading.from_toml(state["config"], f"{folder / STATE}")
        vocabulary, step = Vocabulary.from_json(state["vocabulary"]), int(state["step"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigError) as error:
        raise _damaged(folder, f"{STATE} cannot be read: {error}") from None
    weights = _tensors(_verified(folder, manifest, MODEL), folder)
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
            _write_synced(temporary / name, content)
        _sync(temporary)
        if folder.exists():  # of a step that a resumed run has taken again
            shutil.rmtree(folder)
        temporary.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} is no checkpoint: it has no {MANIFEST}", "name a run that charlm made"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(folder, f"{MANIFEST} cannot be read: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder / MANIFEST} is not of the format {FORMAT}",
            "use the version of charlm that wrote it",
        )
    return manifest


def _verified(folder: Path, manifest: dict[str, Any], name: str) -> bytes:
    """A file's content, once its size and SHA-256 agree with the manifest."""
    try:
        size, digest = manifest["files"][name]["size"], manifest["files"][name]["sha256"]
    except (KeyError, TypeError):
        raise _damaged(folder, f"{MANIFEST} does not name {name}") from None
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise _damaged(folder, f"{name} cannot be read: {error.strerror}") from None
    if len(content) != size:
        raise _damaged(folder, f"{name} has {len(content):,} bytes instead of {size:,}")
    if hashlib.sha256(content).hexdigest() != digest:
        raise _damaged(folder, f"the SHA-256 of {name} is not the one that was written")
    return content


def _tensors(content: bytes, folder: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise _damaged(folder, f"not safetensors: {error}") from None


def _damaged(folder: Path, what: str) -> CheckpointError:
    others = sorted(
        other.name for other in folder.parent.glob("step-*") if other.is_dir() and other != folder
    )
    advice = "use a copy of it"
    if others:
        advice = f"another checkpoint of this run is {folder.parent / others[-1]}"
    return CheckpointError(f"damaged checkpoint {folder}: {what}", advice)


def json_bytes(value: Any) -> bytes:
    """JSON as it stands in the files of a run."""
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, content: bytes) -> None:
    """Replace a file at once: readers and crashes see the old content or the new."""
    temporary = path.with_name(f".{path.name}.writing")
    _write_synced(temporary, content)
    temporary.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
