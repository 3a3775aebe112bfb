"""The arguments of `charlm train`, for the processes that carry it out."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlm.common.errors import UsageError

if TYPE_CHECKING:
    from charlm.config.layers import ConfigLayers


@dataclass(frozen=True)
class TrainArguments:
    """The arguments of `charlm train`; see `source.choose_layers`. run: a directory, or None."""

    source: str | None
    changes: list[str]
    flags: Mapping[str, Any]
    run: Path | None
    resume: bool
    as_json: bool
    quiet: bool

    @cached_property
    def layers(self) -> "ConfigLayers":
        """The requested configuration."""
        from charlm.training import source

        return source.choose_layers(self.source, self.changes, self.flags)

    @cached_property
    def named(self) -> tuple[str, dict[str, Any]]:
        """The preset or `.toml` file, and the flags, including the text if it is the argument."""
        from charlm.training import source

        return source.name_text(self.source, self.flags, self.changes)

    @property
    def begins(self) -> "ConfigLayers | None":
        """The run to begin if there is none to resume; None if the arguments name none."""
        from charlm.training.source import names_text

        named = self.source is not None or names_text(self.changes, self.flags)
        return self.layers if named else None

    @property
    def names_config(self) -> bool:
        """True if the argument is a preset or a `.toml` file."""
        return self.named[0] == self.source

    def refuse_stdin(self) -> None:
        """Check that several processes can read the text. Raises: UsageError; as `layers`."""
        from charlm.text.files.streams import is_stream

        source = self.source or ""
        path = source if is_stream(source) else self.layers.resolve().config.data.path
        for one in [path] if isinstance(path, str) else path:
            if is_stream(one):
                name = "stdin" if one == "-" else one
                raise UsageError(f"several processes cannot read one {name}", "write it to a file")
