"""Sources of a configuration: presets, TOML files, a run, `--set` and flags."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from charlm.common.errors import ConfigError, UsageError
from charlm.common.files import read_regular
from charlm.config import presets
from charlm.config.codec import codec_named
from charlm.config.layers import ConfigLayers, ConfigSource, Rank, settings_layer
from charlm.config.messages import sentence
from charlm.config.schema import Config, DataConfig, SampleConfig, Table

MAX_FILE_BYTES = 1_000_000
"""Largest configuration file."""

RUN = "the run's config.toml"
LEGACY_DEFAULTS = {
    ("model", "input_scale"): 0.0,
    ("data", "order"): "name",
    ("data", "file_limit"): 10**9,
}
"""Values of earlier versions for keys that their configurations lack and whose default differs."""


def load(
    source: str, settings: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> ConfigLayers:
    """Read a preset or a `.toml` file, with `section.key=value` settings on top.

    `flags` holds typed values for dotted keys, of command-line options that stand for a key.
    A file may name the preset it builds on: `preset = "shakespeare"` above its first section.

    Raises: ConfigError (no such preset or file, invalid TOML, a setting not `section.key=value`).
    """
    if source.endswith(".toml"):
        path = Path(source)
        text = _read(path)
        values = _parse(text, str(path))
        base = values.pop("preset", None)
        layers = [ConfigSource(str(path), values, Rank.FILE, text)]
        if base is not None:
            if not isinstance(base, str):
                raise ConfigError(f"{path}: preset = {base!r}", "name one preset, as text")
            layers.insert(0, _preset_layer(base))
        name = path.stem
    else:
        layers, name = [_preset_layer(source)], source
    return ConfigLayers(name, (*layers, *_changes(settings, flags)))


def on_top_of(
    text: str, settings: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> ConfigLayers:
    """Read a run's own configuration (written by `to_toml`), with changes on top."""
    return ConfigLayers(RUN, (_written(text, RUN), *_changes(settings, flags)))


def _changes(
    settings: Sequence[str], flags: Mapping[str, Any] | None
) -> tuple[ConfigSource, ConfigSource]:
    """Return the layers for `--set` and for the flags that stand for a key."""
    flag_values: Table = {}
    for dotted, value in (flags or {}).items():
        section, key = dotted.split(".")
        flag_values.setdefault(section, {})[key] = value
    return settings_layer("--set", settings), ConfigSource(
        "the command line", flag_values, Rank.FLAGS
    )


def from_toml(text: str, origin: str) -> Config:
    """Read a resolved configuration, written by `to_toml`."""
    return ConfigLayers(origin, (_written(text, origin),)).resolve().config


def with_options(own: SampleConfig, options: Mapping[str, Any]) -> SampleConfig:
    """Return a run's configuration of sampling, overridden by options.

    Raises: UsageError for an unknown option or an invalid value.
    """
    try:
        return SampleConfig.model_validate({**own.model_dump(), **options})
    except ValidationError as error:
        raise UsageError(
            sentence(error), f"the options are {', '.join(SampleConfig.model_fields)}"
        ) from None


def with_encoding(own: DataConfig, encoding: str | None, *, of_file: bool) -> DataConfig:
    """Return a run's configuration for reading a text. encoding: of a file; None is the run's.

    Raises: UsageError for an unknown encoding, and for one that is not used.
    """
    if encoding is None:
        return own
    if not of_file or own.unit == "byte":
        whose = "a model of characters: this one reads bytes" if of_file else "a FILE"
        raise UsageError(f"--encoding is for {whose}", "leave it out")
    try:
        return own.model_copy(update={"encoding": codec_named(encoding)})
    except ValueError as error:
        raise UsageError(f"--encoding: {error}", "name a codec of Python, as in cp1251") from None


def _written(text: str, origin: str) -> ConfigSource:
    """Read a configuration written by `to_toml` of this version or an earlier one."""
    values = _parse(text, origin)
    for (section, key), before in LEGACY_DEFAULTS.items():
        if isinstance(table := values.get(section), dict):
            table.setdefault(key, before)
    return ConfigSource(origin, values, Rank.FILE, text)


def _preset_layer(name: str) -> ConfigSource:
    text = presets.text(name)
    return ConfigSource(f"preset {name}", _parse(text, f"preset {name}"), Rank.PRESET, text)


def _read(path: Path) -> str:
    try:
        return read_regular(path, MAX_FILE_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}",
            "`charlm init > my.toml` writes one to start from; a text to train on goes to --data",
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 at byte {error.start}", "save it as UTF-8 text"
        ) from None


def _parse(text: str, origin: str) -> Table:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin}: {error}", "mend the TOML there") from None
    except RecursionError:
        raise ConfigError(
            f"{origin}: nested too deeply", "sections here are one level deep"
        ) from None
    except ValueError as error:  # tomllib passes on int()'s error for too many digits
        raise ConfigError(f"{origin}: {error}", "use a smaller number") from None
