"""The state of a checkpoint: its step, configuration and vocabulary. Read without torch."""

import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from charlm.config import loading
from charlm.config.messages import sentence
from charlm.config.schema import Config
from charlm.errors import ConfigError
from charlm.runs.manifest import STATE, damaged, read_manifest, verified

UNFINISHED = ".writing-"
"""Prefix of the names of folders that are not yet checkpoints."""
NAMED = re.compile(r"step-\d{8,13}")
"""Pattern of the results of `name_of`."""


class SavedState(BaseModel):
    """The content of state.json. Other keys were written by another version."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    step: int = Field(ge=0, le=10**12)
    progress: dict[str, Any]
    corpus: str = Field(max_length=128)
    versions: dict[str, str]
    device: str
    precision: str
    threads: int
    config: str
    vocabulary: dict[str, Any]


def name_of(step: int) -> str:
    """Return the name of the folder of a step's checkpoint."""
    return f"step-{step:08d}"


def step_of(name: str) -> int:
    """Return the step in the name of a checkpoint's folder; -1 for another name."""
    return int(name.partition("-")[2]) if NAMED.fullmatch(name) else -1


def read_state(folder: Path) -> tuple[dict[str, Any], Config]:
    """Read and verify the state.json of a checkpoint; return it with the configuration in it.

    Raises: CheckpointError if it is damaged or foreign.
    """
    if folder.is_symlink():
        raise damaged(folder, "it is a symbolic link, not the folder that charlm wrote")
    try:
        state: dict[str, Any] = json.loads(verified(folder, read_manifest(folder), STATE))
        SavedState.model_validate(state)
        config = loading.from_toml(state["config"], f"{folder / STATE}")
    except ValidationError as error:
        raise damaged(folder, f"{STATE}: {sentence(error)}") from None
    except (ValueError, RecursionError, ConfigError) as error:
        raise damaged(folder, f"{STATE} cannot be read: {error}") from None
    if NAMED.fullmatch(folder.name) and folder.name != name_of(state["step"]):
        raise damaged(folder, f"it was written as {name_of(state['step'])}, and has been renamed")
    return state, config
