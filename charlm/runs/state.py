"""The state of a checkpoint: its step, configuration and vocabulary. Read without torch."""

import json
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from charlm.common.errors import ConfigError
from charlm.config import loading
from charlm.config.messages import sentence
from charlm.config.schema import Config
from charlm.runs.manifest import NAMED, STATE, damaged, name_of, read_manifest, verified


class SavedState(BaseModel):
    """The content of state.json. Keys that are not listed were written by another version.

    progress: of `training.state.TrainingState`. corpus: the fingerprint of the text. config: in
    TOML. teachers: the SHA-256 of each one's weights.
    """

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    charlm: str = ""
    step: int = Field(ge=0, le=10**12)
    progress: dict[str, Any]
    corpus: str = Field(max_length=128)
    versions: dict[str, str]
    device: str
    precision: str
    threads: int
    backend: str = Field(default="", validation_alias=AliasChoices("backend", "engine"))
    """Version 0.1.0 called it engine."""
    processes: int = 1
    config: str
    vocabulary: dict[str, Any]
    teachers: list[str] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the values for state.json."""
        return self.model_dump(exclude=set() if self.teachers else {"teachers"})

    def conditions(self) -> dict[str, Any]:
        """Return the versions and the machine that the bits of a training depend on."""
        names = ("device", "precision", "threads", "backend", "processes")
        return self.versions | {name: getattr(self, name) for name in names}


def read_state(folder: Path) -> tuple[SavedState, Config]:
    """Read and verify the state.json of a checkpoint; return it with the configuration in it.

    Raises: CheckpointError if it is damaged or foreign.
    """
    if folder.is_symlink():
        raise damaged(folder, "it is a symbolic link, not the folder that charlm wrote")
    try:
        content = json.loads(verified(folder, read_manifest(folder), STATE))
        state = SavedState.model_validate(content)
        config = loading.from_toml(state.config, f"{folder / STATE}")
    except ValidationError as error:
        raise damaged(folder, f"{STATE}: {sentence(error)}") from None
    except (ValueError, RecursionError, ConfigError) as error:
        raise damaged(folder, f"{STATE} cannot be read: {error}") from None
    if NAMED.fullmatch(folder.name) and folder.name != name_of(state.step):
        raise damaged(folder, f"it was written as {name_of(state.step)}, and has been renamed")
    return state, config
