"""Layers of values that make a configuration, each with its origin.

Precedence, lowest first: schema default < preset < file < `--set` (and the flags that stand for a
key). A preset or file may hold `[[size]]` rows, rules that pick values by the length of the text:

    [[size]]
    max_characters = 300_000           # the first row that admits the text applies
    model = { hidden_size = 128 }

They belong to the layer that contains them, so a higher layer overrides them.
"""

import contextlib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from charlm.common.errors import ConfigError
from charlm.config.messages import sentences
from charlm.config.schema import SECTIONS, Config, SizeRule, Table

RENAMED = {("train", "engine"): ("train", "backend")}
"""Keys of earlier versions with their present names, so that old runs and files are still read."""


class Rank(IntEnum):
    """The sources of values, lowest first: a value overrides those of lower ranks."""

    PRESET = 0
    FILE = 1
    START_RUN = 2  # the shape of the run whose weights a model begins with
    SETTINGS = 3
    FLAGS = 4
    CELL = 5  # of a comparison
    FITTED = 6  # in place of a preset's values only


@dataclass(frozen=True)
class ConfigSource:
    """Values from one source, its name in messages and its rank."""

    origin: str
    values: Table
    rank: Rank
    text: str = ""

    @property
    def is_preset(self) -> bool:
        """True if charlm chose the values, not the user."""
        return self.rank in (Rank.PRESET, Rank.FITTED)

    def place(self, section: str, key: str) -> str:
        """Return the place of `section.key`: `file:line`, or only the source's name."""
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
    """A validated configuration and, for every key that is not at its default, its origin.

    chosen: the keys that the user has set: by a file, `--set` or a flag.
    """

    config: Config
    origins: dict[str, str]
    chosen: frozenset[str]


@dataclass(frozen=True)
class ConfigLayers:
    """The layers of a configuration, lowest first; `resolve` validates them for a text.

    replaced: by `section.key`: values in place of those of the layers, which remain the origin.
    """

    name: str
    layers: tuple[ConfigSource, ...]
    replaced: Mapping[str, object] = field(default_factory=dict)

    def resolve(self, characters: int = 0) -> Resolved:
        """Return the configuration for a text of `characters` characters.

        Raises: ConfigError with every error of every layer, each with its place.
        """
        merged: Table = {}
        origins: dict[str, ConfigSource] = {}
        for layer in self._sized(characters):
            for section, key, value in _entries(layer.values):
                section, key = RENAMED.get((section, key), (section, key))
                merged.setdefault(section, {})[key] = value
                origins[f"{section}.{key}"] = layer
        for dotted in self.replaced.keys() & origins.keys():
            section, _, key = dotted.partition(".")
            merged[section][key] = self.replaced[dotted]
        _leave_out_of_bytes(merged, origins)
        try:
            config = Config.model_validate(merged)
        except ValidationError as error:
            raise _config_error(error, origins) from None
        chosen = frozenset(key for key, layer in origins.items() if not layer.is_preset)
        return Resolved(config, {key: layer.origin for key, layer in origins.items()}, chosen)

    def resolve_every_size(self) -> None:
        """Check the configuration for every length of text at which the `[[size]]` row changes.

        Raises: as `resolve`.
        """
        rows = (
            rule
            for layer in self.layers
            for rule in _size_rules(layer, layer.values.get("size", []))
        )
        for characters in sorted({0, *(rule.max_characters for rule in rows)}):
            self.resolve(characters)

    def with_layers(self, added: Sequence[ConfigSource]) -> "ConfigLayers":
        """Return the layers with others, each above those of its rank and lower ones."""
        layers = sorted((*self.layers, *added), key=lambda one: one.rank)
        return replace(self, layers=tuple(layers))

    def _sized(self, characters: int) -> Iterator[ConfigSource]:
        """Yield the layers, each followed by the `[[size]]` row of it that fits the text."""
        for layer in self.layers:
            rows = layer.values.get("size", [])
            yield replace(layer, values={k: v for k, v in layer.values.items() if k != "size"})
            for rule in _size_rules(layer, rows):
                if characters <= rule.max_characters:
                    values = {"model": rule.model, "train": rule.train, "sample": rule.sample}
                    origin = f"{layer.origin} (text up to {rule.max_characters:,} characters)"
                    if rule.max_characters == 10**15:
                        origin = f"{layer.origin} (any longer text)"
                    yield replace(layer, origin=origin, values=values)
                    break


def _leave_out_of_bytes(merged: Table, origins: dict[str, ConfigSource]) -> None:
    """Remove a preset's keys for characters if the user has chosen bytes."""
    data, unit = merged.get("data", {}), origins.get("data.unit")
    if unit is None or unit.is_preset or data["unit"] != "byte":
        return
    for key in ("normalize", "minimum_count"):
        layer = origins.get(f"data.{key}")
        if layer is not None and layer.is_preset:
            del data[key], origins[f"data.{key}"]


def settings_layer(
    origin: str, settings: Sequence[str], rank: Rank = Rank.SETTINGS
) -> ConfigSource:
    """Read `section.key=value` settings as a layer called `origin` in messages.

    Raises: ConfigError for one that is not of that form.
    """
    values: Table = {}
    for setting in settings:
        section, key, value = _setting(setting)
        values.setdefault(section, {})[key] = value
    return ConfigSource(origin, values, rank)


def _setting(setting: str) -> tuple[str, str, Any]:
    """Parse `train.steps=100` into section, key and a value typed by the schema."""
    dotted, equals, raw = setting.partition("=")
    section, _, key = dotted.strip().partition(".")
    if not (equals and section and key):
        raise ConfigError(
            f"{setting!r} is no setting" if setting else "a setting is empty",
            "write section.key=value, as in train.steps=500",
        )
    if section == "size":
        raise ConfigError(
            f"{setting!r}: rules by the length of the text stand in a file",
            "write [[size]] rows in a .toml file, or set the value itself: train.steps=500",
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
    wrong = ""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        wrong = "it is no row: write [[size]], with two brackets"
    try:
        if not wrong:
            return [SizeRule.model_validate(row) for row in rows]
    except ValidationError as error:
        wrong = sentences(error)[0]
    raise ConfigError(
        f"{layer.place('size', '')}: a [[size]] row is wrong: {wrong}",
        "a row holds max_characters and tables of values: model, train, sample",
    )


def _config_error(error: ValidationError, origins: Mapping[str, ConfigSource]) -> ConfigError:
    """Combine all errors into one, with a line for each that has the place of the key."""

    def place(section: str, key: str) -> str:
        source = origins.get(f"{section}.{key}" if key else section) or origins.get(f"{section}.")
        return f"{source.place(section, key)}: " if source else ""

    lines = sentences(error, place)
    advice = "`charlm init` prints a configuration that works, with comments"
    if len(lines) == 1:
        return ConfigError(lines[0], advice)
    return ConfigError(f"{len(lines)} errors", advice, lines)
