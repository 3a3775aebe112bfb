"""Output of a training run on the terminal: its description and its result."""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from charlm.common.wording import byte_size
from charlm.config.schema import SECTIONS, Config
from charlm.terminal.console import (
    duration,
    print_columns,
    print_next,
    print_result,
    print_status,
    warn,
)
from charlm.text.corpus import Corpus
from charlm.text.display import named
from charlm.text.kinds import CODE, Kind
from charlm.text.likeness import Unlike, unlike_splits
from charlm.text.splits import TextStats
from charlm.training.events import Summary

MANY_PASSES = 50
ENOUGH_FILES = 40
"""Number of files from which a split by file almost never leaves a split empty."""


def describe(corpus: Corpus, text: TextStats | None = None) -> None:
    """Print the size of the text, its vocabulary and its unknown characters.

    text: its files, printed if a folder or several files were named.
    """
    vocabulary = corpus.vocabulary
    if text and (len(text.files) > 1 or text.found.left_out_count):
        print_status(f"files       {_files(text)}")
    parts = [
        f"{split.characters:,} {name}" for name, split in corpus.splits.items() if split.characters
    ]
    unknown = ", one for the unknown" if vocabulary.has_unknown else ""
    print_status(f"text        {' + '.join(parts)} characters")
    end = ", one for the end of a record" if vocabulary.has_end else ""
    print_status(f"vocabulary  {len(vocabulary):,} symbols ({vocabulary.unit}{unknown}{end})")
    for name, split in corpus.splits.items():
        if split.unknown:
            count = f"{sum(split.unknown.values()):,}"
            print_status(f"unknown     {count} in {name}: {named(split.unknown)}")
    if not corpus.splits["validation"].characters:
        print_status("evaluation  on the train split: this configuration holds nothing out")
    if unlike := unlike_splits(corpus):
        files = len(text.files) if text else 1
        _warn_of_unlike(unlike, "files" if files >= ENOUGH_FILES else "lines")


def _warn_of_unlike(unlike: Sequence[Unlike], records: str) -> None:
    """Warn of splits whose characters differ from the train split's.

    records: the suggested value of `data.records`.
    """
    most = max(unlike, key=lambda one: one.distance)
    names = " and ".join(one.split for one in unlike)
    warn(
        f"the characters of {names} are unlike those of train: {most.distance:.0%} of them differ, "
        f"{most.usual:.0%} is usual within this text. A text is split by position; "
        f"if its end is in another language, split it by {records}: "
        f"--set data.records={records}"
    )


def _files(text: TextStats) -> str:
    """Describe the files that were read, and the first ones left out."""
    count, text_files = len(text.files), text.found
    line = f"{count:,} file{'s' if count != 1 else ''}, {byte_size(text.size)}"
    if not text_files.left_out_count:
        return line
    return f"{line}; {text_files.left_out_text()}"


def files_as_json(text: TextStats) -> dict[str, Any]:
    """Return the files that were read and those left out, for `train --dry-run --json`.

    Units: bytes of the files' content, decompressed.
    """
    text_files = text.found
    named = [{"path": str(one.path), "reason": one.reason} for one in text_files.left_out]
    return {
        "count": len(text.files),
        "bytes": text.size,
        "left_out_count": text_files.left_out_count,
        "left_out": named,
    }


def introduce(config: Config, parameters: int, environment: Mapping[str, Any], path: Path) -> None:
    """Print the model, its computation and the folder of the run."""
    model = config.model
    sizes = f"{model.num_layers} x {model.hidden_size}"
    print_status(
        f"model       {model.cell} {sizes}, {parameters:,} parameters; {_computation(environment)}"
    )
    print_status(f"run         {path}")


def _computation(environment: Mapping[str, Any]) -> str:
    """Describe the device, precision and backend of a computation."""
    if environment["device"] != "cpu":
        return f"{environment['device']} in {environment['precision']}"
    threads = environment["threads"]
    on = f"cpu, {threads} thread{'s' if threads > 1 else ''}, {environment['precision']}"
    return f"{on}, {'native kernels' if environment['backend'] == 'native' else 'torch'}"


def suggested(kind: Kind, paths: Sequence[str], settings: Sequence[str]) -> str:
    """Return the command that trains on the same texts with the preset for their kind."""
    data = [part for path in paths for part in ("--data", path)]
    if kind.separator:
        separator = kind.separator if kind.separator != "\t" else json.dumps("\t")
        settings = [*settings, "data.records=separator", f"data.separator={separator}"]
    changes = [part for setting in settings for part in ("--set", setting)]
    return shlex.join(["charlm", "train", kind.preset, *data, *changes])


def suggest(kind: Kind, command: str) -> None:
    """Print the kind of the text, and the command with the preset for it."""
    one = "item" if kind.separator else "line"
    purpose = f"to take each {one} as a text of its own"
    if kind == CODE:
        purpose = "for settings measured on such code"
    print_status(f"hint        this looks like {kind.name}; {purpose}: {command}")


def conclude(summary: Summary, prompt: str) -> None:
    """Print the result of a run, and the command to try next."""
    endings = {
        "steps": "all steps taken",
        "time": "time is up",
        "target": "target reached",
        "patience": "stopped by train.patience, the validation no longer improves",
        "signal": "stopped on request",
    }
    speed = f"{summary['characters_per_second']:,.0f} characters/s"
    print_result(
        f"{endings[summary['stopped_by']]}: step {summary['steps']:,}, "
        f"{duration(summary['seconds'])} of training, {speed}"
    )
    if best := summary["best"]:
        print_result(
            f"best: {best['loss']:.4f} nats per symbol = {best['bits_per_character']:.4f} "
            f"bits per character, at step {best['step']:,}"
        )
    if summary["stopped_by"] == "signal":
        print_next("charlm", "train", "--resume", "--run", summary["run"])
    else:
        print_next("charlm", "sample", summary["run"], *(["--prompt", prompt] if prompt else []))


def predictions_table(
    inputs: Iterable[str], targets: Iterable[str], symbols: list[str], rows: list[list[float]]
) -> None:
    """Print each input character, its target and the prediction, as in the lecture's figure."""
    heading = ["input", "target", *(f"p({symbol})" for symbol in symbols)]
    cells: list[list[str | Text]] = [
        [
            read,
            target,
            *(
                Text(f"{p:.3f}", "likely" if symbol == target else "aside")
                for symbol, p in zip(symbols, row, strict=True)
            ),
        ]
        for read, target, row in zip(inputs, targets, rows, strict=True)
    ]
    print_result("")
    print_result("predictions of the model", "heading")
    print_columns(heading, cells, right=range(2, len(heading)))


def settings_table(config: Config, origins: dict[str, str]) -> None:
    """Print every key, its value and its origin."""
    rows, styles = [], []
    for section in SECTIONS:
        for key, value in getattr(config, section).model_dump().items():
            origin = origins.get(f"{section}.{key}", "default")
            rows.append((f"{section}.{key}", str(value), origin))
            styles.append("aside" if origin == "default" else "")
    print_columns(("key", "value", "from"), rows, styles=styles)


def estimated(estimate: dict[str, Any], patience: int) -> None:
    """Print the estimated time and memory of a run, and a note on many passes.

    patience: `train.patience`.
    """
    passes = estimate["passes"]
    print_result(
        f"{estimate['parameters']:,} parameters; {estimate['characters_per_second']:,.0f} "
        f"characters/s on {_computation(estimate)}; {estimate['peak_memory_bytes'] / 1e6:,.0f} MB"
    )
    print_result(
        f"{'at most ' if patience else ''}about {duration(estimate['seconds'])} of training, "
        f"{passes:,.{0 if passes >= MANY_PASSES else 1}f} passes over the train split"
    )
    if estimate["passes"] > MANY_PASSES:
        print_result(
            f"note: {estimate['passes']:.0f} passes are enough to learn this text by heart; a "
            "longer text, fewer train.steps or more model.dropout may write better (train.patience "
            "stops once the validation no longer falls)"
        )
