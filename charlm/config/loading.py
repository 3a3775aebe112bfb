"""Where a configuration's values come from: presets, TOML files, `--set`, and the rules by size.

Precedence, lowest first: schema default < preset < file < `--set` (and the flags that stand for a
key). A preset or file may hold `[[size]]` rows, rules that pick values by the length of the text:

    [[size]]
    max_characters = 300_000           # the first row that admits the text applies
    model = { hidden_size = 128 }

They belong to the layer that they stand in, so a higher layer overrides them.
"""

import contextlib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from charlm.config.messages import nearest, sentences
from charlm.config.schema import SECTIONS, Config, SizeRule, Table
from charlm.errors import ConfigError
from charlm.files import read_regular, shipped

MAX_FILE_BYTES = 1_000_000
"""A configuration larger than this is not a configuration."""

RUN = "the run's config.toml"

RENAMED = {("train", "engine"): ("train", "backend")}
"""Keys of earlier versions, so that their runs and files are still read."""


@dataclass(frozen=True)
class ConfigSource:
    """Values from one source, and what to call that source in a message."""

    origin: str
    values: Table
    text: str = ""

    def place(self, section: str, key: str) -> str:
        """Find where `section.key` stands: `file:line`, or just the source's name."""
        current = ""
        for number, line in enumerate(self.text.splitlines(), start=1):
            if header := re.match(r"\s*\[+\s*([\w.]+)\s*\]+", line):
                current = header[1]
                if not key and current == section:
                    return f"{self.origin}:{number}"
                continue
            wanted = {section: key, "": section}.get(current)  # "": above the first section
            if wanted and re.match(rf"\s*[\"']?{re.escape(wanted)}[\"']?\s*[.=]", line):
                return f"{self.origin}:{number}"
        return self.origin


@dataclass(frozen=True)
class Resolved:
    """A validated configuration and, for every key that is not at its default, its origin."""

    config: Config
    origins: dict[str, str]


@dataclass(frozen=True)
class ConfigLayers:
    """The layers of a configuration, lowest first; `resolve` validates them for a text."""

    name: str
    layers: tuple[ConfigSource, ...]

    def resolve(self, characters: int = 0) -> Resolved:
        """Return the configuration for a text of `characters` characters.

        Raises: ConfigError with every error of every layer, each with its place.
        """
        merged: Table = {}
        found: dict[str, ConfigSource] = {}
        for layer in self._sized(characters):
            for section, key, value in _entries(layer.values):
                section, key = RENAMED.get((section, key), (section, key))
                merged.setdefault(section, {})[key] = value
                found[f"{section}.{key}"] = layer
        try:
            config = Config.model_validate(merged)
        except ValidationError as error:
            raise _config_error(error, found) from None
        return Resolved(config, {key: layer.origin for key, layer in found.items()})

    def with_value(self, section: str, key: str, value: Any) -> "ConfigLayers":
        """Return the layers with a value replaced where it was set last, its origin unchanged."""
        layers = list(self.layers)
        for at in reversed(range(len(layers))):
            table = layers[at].values.get(section)
            if isinstance(table, dict) and key in table:
                values = {**layers[at].values, section: {**table, key: value}}
                layers[at] = replace(layers[at], values=values)
                break
        return replace(self, layers=tuple(layers))

    def and_set(self, origin: str, settings: Sequence[str]) -> "ConfigLayers":
        """Return the layers with `section.key=value` settings on top, called `origin` in messages.

        Raises: ConfigError for one that is not of that form.
        """
        return replace(self, layers=(*self.layers, _settings_layer(origin, settings)))

    def _sized(self, characters: int) -> Iterator[ConfigSource]:
        """Yield the layers, each followed by the `[[size]]` row of it that fits the text."""
        for layer in self.layers:
            rows = layer.values.get("size", [])
            yield ConfigSource(
                layer.origin, {k: v for k, v in layer.values.items() if k != "size"}, layer.text
            )
            for rule in _size_rules(layer, rows):
                if characters <= rule.max_characters:
                    values = {"model": rule.model, "train": rule.train, "sample": rule.sample}
                    origin = f"{layer.origin} (text up to {rule.max_characters:,} characters)"
                    if rule.max_characters == 10**15:
                        origin = f"{layer.origin} (any longer text)"
                    yield ConfigSource(origin, values, layer.text)
                    break


def preset_folder() -> Path:
    """Return `configs/`: inside an installed package, else at the top of the checkout."""
    return shipped("config/presets", "configs")


def presets() -> list[str]:
    return sorted(path.stem for path in preset_folder().glob("*.toml"))


def preset_text(name: str) -> str:
    """Return the commented TOML of a preset. Raises: ConfigError for a name that is none."""
    if name not in presets():
        near = nearest(name, presets())
        raise ConfigError(
            f"no preset is called {name!r}{near}",
            f"the presets are {', '.join(presets())}; a file of your own ends in .toml",
        )
    return (preset_folder() / f"{name}.toml").read_text(encoding="utf-8")


def load(
    source: str, settings: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> ConfigLayers:
    """Read a preset or a `.toml` file, with `section.key=value` settings on top.

    `flags` holds typed values for dotted keys, of command-line options that stand for a key.
    A file may name the preset it builds on: `preset = "shakespeare"` above its first section.

    Raises: ConfigError: no such preset or file, no TOML, a setting not `section.key=value`.
    """
    if source.endswith(".toml"):
        path = Path(source)
        text = _read(path)
        values = _parse(text, str(path))
        base = values.pop("preset", None)
        layers = [ConfigSource(str(path), values, text)]
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
    """Read a run's own configuration (as `to_toml` wrote it), with changes on top."""
    return ConfigLayers(
        RUN, (ConfigSource(RUN, _parse(text, RUN), text), *_changes(settings, flags))
    )


def _settings_layer(origin: str, settings: Sequence[str]) -> ConfigSource:
    values: Table = {}
    for setting in settings:
        section, key, value = _setting(setting)
        values.setdefault(section, {})[key] = value
    return ConfigSource(origin, values)


def _changes(
    settings: Sequence[str], flags: Mapping[str, Any] | None
) -> tuple[ConfigSource, ConfigSource]:
    """Return the layers for `--set` and for the flags that stand for a key."""
    flag_values: Table = {}
    for dotted, value in (flags or {}).items():
        section, key = dotted.split(".")
        flag_values.setdefault(section, {})[key] = value
    return _settings_layer("--set", settings), ConfigSource("the command line", flag_values)


def from_toml(text: str, origin: str) -> Config:
    """Read a resolved configuration, as `to_toml` wrote it."""
    return (
        ConfigLayers(origin, (ConfigSource(origin, _parse(text, origin), text),)).resolve().config
    )


def _preset_layer(name: str) -> ConfigSource:
    text = preset_text(name)
    return ConfigSource(f"preset {name}", _parse(text, f"preset {name}"), text)


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
    except ValueError as error:  # tomllib lets int()'s own refusal of endless digits through
        raise ConfigError(f"{origin}: {error}", "use a smaller number") from None


def _setting(setting: str) -> tuple[str, str, Any]:
    """Read `train.steps=100` as section, key and a value typed by the schema."""
    dotted, equals, raw = setting.partition("=")
    section, dot, key = dotted.strip().partition(".")
    if not equals or not dot:
        raise ConfigError(
            f"{setting!r} is no setting", "write section.key=value, as in train.steps=500"
        )
    section, key = RENAMED.get((section, key), (section, key))
    field = SECTIONS[section].model_fields.get(key) if section in SECTIONS else None
    if field is not None and not raw.lstrip().startswith(("[", '"')):
        with contextlib.suppress(ValidationError):
            return (
                section,
                key,
                TypeAdapter[Any](cast("Any", field.annotation)).validate_strings(raw),
            )
    try:
        return section, key, tomllib.loads(f"value = {raw}")["value"]
    except (ValueError, RecursionError):
        return section, key, raw


def _entries(values: Table) -> Iterator[tuple[str, str, Any]]:
    for section, table in values.items():
        if not isinstance(table, dict):
            yield section, "", table
            continue
        for key, value in table.items():
            yield section, key, value


def _size_rules(layer: ConfigSource, rows: Any) -> list[SizeRule]:
    try:
        return [SizeRule.model_validate(row) for row in rows]
    except (ValidationError, TypeError) as error:
        not_table = isinstance(error, TypeError)
        first = "not a table" if not_table else sentences(error)[0]  # type: ignore[arg-type]
        raise ConfigError(
            f"{layer.place('size', '')}: a [[size]] row is wrong: {first}",
            "a row holds max_characters and tables of values: model, train, sample",
        ) from None


def _config_error(error: ValidationError, found: Mapping[str, ConfigSource]) -> ConfigError:
    """Put all errors into one, a line each, with the place of the key."""

    def place(section: str, key: str) -> str:
        source = found.get(f"{section}.{key}" if key else section) or found.get(f"{section}.")
        return f"{source.place(section, key)}: " if source else ""

    lines = sentences(error, place)
    advice = "`charlm init` prints a configuration that works, with comments"
    if len(lines) == 1:
        return ConfigError(lines[0], advice)
    return ConfigError(f"{len(lines)} errors", advice, lines)
