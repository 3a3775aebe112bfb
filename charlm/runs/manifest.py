"""The name of a checkpoint's folder, and its manifest: size and SHA-256 of its files.

Importing this imports neither torch nor pydantic.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from charlm.common.errors import CheckpointError
from charlm.common.files import read_regular

FORMAT = "charlm-checkpoint-1"
MODEL, TRAINING, STATE, MANIFEST = (
    "model.safetensors",
    "training.safetensors",
    "state.json",
    "manifest.json",
)


UNFINISHED = ".writing-"
"""Prefix of the names of folders that are not yet checkpoints."""
NAMED = re.compile(r"step-\d{8,13}")
"""Pattern of the results of `name_of`."""
MOST_OF_MANIFEST, MOST_OF_CONFIG = 1_000_000, 10_000_000
"""Limits in bytes."""


def name_of(step: int) -> str:
    """Return the name of the folder of a step's checkpoint."""
    return f"step-{step:08d}"


def step_of(name: str) -> int:
    """Return the step in the name of a checkpoint's folder; -1 for another name."""
    return int(name.partition("-")[2]) if NAMED.fullmatch(name) else -1


def read_manifest(folder: Path, format: str = FORMAT) -> dict[str, Any]:
    """Read the manifest of a checkpoint, or of another folder written in the same way.

    Raises: CheckpointError if it is missing, damaged or of another format.
    """
    try:
        manifest = json.loads(read_regular(folder / MANIFEST, MOST_OF_MANIFEST))
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} is no checkpoint: it has no {MANIFEST}", "name a run that charlm made"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(folder, f"{MANIFEST} cannot be read: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != format:
        raise CheckpointError(
            f"{folder / MANIFEST} is not of the format {format}",
            "use the version of charlm that wrote it",
        )
    return manifest


def verified(folder: Path, manifest: dict[str, Any], name: str) -> bytes:
    """Return a file's content, after a check of its size and SHA-256.

    Raises: CheckpointError if they do not match the manifest.
    """
    size, digest = promised(folder, manifest, name)
    try:
        found = (folder / name).stat().st_size
        if found == size:
            content = read_regular(folder / name, size)
            found = len(content)
    except OSError as error:
        raise damaged(folder, f"{name} cannot be read: {error.strerror}") from None
    if found != size:
        raise damaged(folder, f"{name} has {found:,} bytes instead of {size:,}")
    if hashlib.sha256(content).hexdigest() != digest:
        raise damaged(folder, f"the SHA-256 of {name} is not the one that was written")
    return content


def promised(folder: Path, manifest: dict[str, Any], name: str) -> tuple[int, str]:
    """Return a file's size and digest in the manifest."""
    try:
        size, digest = manifest["files"][name]["size"], manifest["files"][name]["sha256"]
    except (KeyError, TypeError):
        raise damaged(folder, f"{MANIFEST} does not name {name}") from None
    if type(size) is not int or not 0 <= size < 2**53 or not isinstance(digest, str):
        raise damaged(folder, f"{MANIFEST} does not have size and SHA-256 of {name}")
    return size, digest


def intact(folder: Path) -> bool:
    """Return True if a folder is a checkpoint whose files are all intact."""
    try:
        manifest = read_manifest(folder)
        for name in (STATE, MODEL, TRAINING):
            verified(folder, manifest, name)
    except CheckpointError:
        return False
    return not folder.is_symlink()


def damaged(folder: Path, what: str) -> CheckpointError:
    """Make the error for a damaged checkpoint; it names another one of the run."""
    others = sorted(
        other.name for other in folder.parent.glob("step-*") if other.is_dir() and other != folder
    )
    advice = "put back a copy of the run, or train it again"
    if others:
        advice = f"another checkpoint of this run is {folder.parent / others[-1]}"
    return CheckpointError(f"damaged checkpoint {folder}: {what}", advice)
