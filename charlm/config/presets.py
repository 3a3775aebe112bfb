"""The presets in `configs/`. Importing this does not import pydantic."""

from pathlib import Path

from charlm.common.errors import ConfigError
from charlm.common.files import shipped
from charlm.common.wording import suggestion


def folder() -> Path:
    """Return `configs/`: inside an installed package, else at the top of the checkout."""
    return shipped("config/presets", "configs")


def names() -> list[str]:
    """List the names of all presets, sorted."""
    return sorted(path.stem for path in folder().glob("*.toml"))


def text(name: str) -> str:
    """Return the commented TOML of a preset. Raises: ConfigError for an unknown name."""
    known = names()
    if name not in known:
        raise ConfigError(
            f"no preset is called {name!r}{suggestion(name, known)}",
            f"the presets are {', '.join(known)}; a file of your own ends in .toml",
        )
    return (folder() / f"{name}.toml").read_text(encoding="utf-8")
