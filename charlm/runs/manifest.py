"""The manifest of a checkpoint: size and SHA-256 of its files. Read without torch."""

import hashlib
import json
from pathlib import Path
from typing import Any

from charlm.errors import CheckpointError

FORMAT = "charlm-checkpoint-1"
MODEL, TRAINING, STATE, MANIFEST = (
    "model.safetensors",
    "training.safetensors",
    "state.json",
    "manifest.json",
)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a checkpoint's manifest. Raises: CheckpointError: none, damaged, of another format."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} is no checkpoint: it has no {MANIFEST}", "name a run that charlm made"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(folder, f"{MANIFEST} cannot be read: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder / MANIFEST} is not of the format {FORMAT}",
            "use the version of charlm that wrote it",
        )
    return manifest


def verified(folder: Path, manifest: dict[str, Any], name: str) -> bytes:
    """Return a file's content, once its size and SHA-256 agree with the manifest.

    Raises: CheckpointError where they do not.
    """
    try:
        size, digest = manifest["files"][name]["size"], manifest["files"][name]["sha256"]
    except (KeyError, TypeError):
        raise damaged(folder, f"{MANIFEST} does not name {name}") from None
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise damaged(folder, f"{name} cannot be read: {error.strerror}") from None
    if len(content) != size:
        raise damaged(folder, f"{name} has {len(content):,} bytes instead of {size:,}")
    if hashlib.sha256(content).hexdigest() != digest:
        raise damaged(folder, f"the SHA-256 of {name} is not the one that was written")
    return content


def damaged(folder: Path, what: str) -> CheckpointError:
    """Make the error for a damaged checkpoint, which names another one of the run."""
    others = sorted(
        other.name for other in folder.parent.glob("step-*") if other.is_dir() and other != folder
    )
    advice = "use a copy of it"
    if others:
        advice = f"another checkpoint of this run is {folder.parent / others[-1]}"
    return CheckpointError(f"damaged checkpoint {folder}: {what}", advice)
