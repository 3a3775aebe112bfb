"""The SOURCE of `charlm train`: a preset, a `.toml` file, or a text or folder.

Importing this imports neither torch nor pydantic.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlm.common.errors import UsageError
from charlm.config import presets
from charlm.runs.finding import is_run
from charlm.text.files import sources

if TYPE_CHECKING:
    from charlm.config.layers import ConfigLayers

log = logging.getLogger(__name__)


def choose_layers(
    source: str | None, changes: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> "ConfigLayers":
    """Read the SOURCE of `charlm train`: a preset, a `.toml` file, or a text or folder.

    source: None means `hello`, or `default` if `changes` or `flags` name a text. A preset takes
        precedence over a file of the same name. changes, flags: as for `loading.load`.

    Raises: ConfigError, UsageError (two texts).
    """
    from charlm.config import loading  # here: pydantic takes a moment

    config, flags = name_text(source, flags, changes)
    if config == source and config in presets.names() and Path(config).exists():
        log.info(f"{config} is read as the preset; for the file of that name: --data {config}")
    return loading.load(config, changes, flags)


def names_text(changes: Sequence[str], flags: Mapping[str, Any]) -> bool:
    """Return True if `--set` or a flag names a text."""
    keys = (change.partition("=")[0].strip() for change in changes)
    return "data.path" in (*flags, *keys)


def name_text(
    source: str | None, flags: Mapping[str, Any] | None = None, changes: Sequence[str] = ()
) -> tuple[str, dict[str, Any]]:
    """Return the preset or `.toml` file that `choose_layers` reads, and the flags with the text."""
    flags = dict(flags or {})
    if source is None:
        source = "default" if names_text(changes, flags) else "hello"
    elif sources.is_address(source):
        raise UsageError(f"{source} is an address, not a file", sources.FOR_ADDRESSES)
    elif source not in presets.names() and not source.endswith(".toml") and Path(source).exists():
        if "data.path" in flags:
            raise UsageError(
                f"two texts are named: {source} and --data {flags['data.path']}",
                "name one of them, or both as --data",
            )
        if is_run(Path(source)):
            raise UsageError(
                f"{source} is a run, not a text", f"to go on with it: --resume --run {source}"
            )
        flags["data.path"], source = source, "default"
    elif source not in presets.names() and not source.endswith(".toml") and Path(source).suffix:
        raise UsageError(f"there is no file {source}", "name a text, a folder or a preset")
    return source, flags
