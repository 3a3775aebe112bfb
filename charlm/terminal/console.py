"""What people read: talk on stderr, the product of a command on stdout.

Text from a model or a file never goes through rich's markup, and on a terminal its control
characters are made visible.
"""

import logging
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from charlm.compare.benchmark import Row
from charlm.config.schema import SECTIONS, Config
from charlm.evaluation.scoring import Scored
from charlm.sampling.generate import named, visible
from charlm.text.corpus import Corpus
from charlm.text.vocabulary import Vocabulary


class PlainConsole(Console):
    """Leaves a reader that has gone, such as `head`, to the one place that handles it."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


talk = PlainConsole(stderr=True, highlight=False, soft_wrap=True)
out = PlainConsole(highlight=False, soft_wrap=True)


def say(message: str, style: str = "") -> None:
    """One line of talk, never read as markup."""
    talk.print(Text(visible(message), style=style))


def tell(message: str, style: str = "") -> None:
    """One line of a command's product, never read as markup."""
    out.print(Text(visible(message), style=style))


def error(what: str, advice: str) -> None:
    say(f"error: {what}", "bold red")
    say(f"help: {advice}")


def warn(message: str) -> None:
    say(f"warning: {message}", "yellow")


class _Shown(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        (warn if record.levelno >= logging.WARNING else say)(record.getMessage())


def show_log(*, quiet: bool) -> None:
    """Say what the library has to tell while it works; when quiet, warnings only."""
    log = logging.getLogger("charlm")
    log.handlers = [_Shown()]
    log.setLevel(logging.WARNING if quiet else logging.INFO)


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes}:{rest:02d}"


def describe(corpus: Corpus) -> None:
    """What the text is, and what of the held-out splits the vocabulary does not know."""
    vocabulary = corpus.vocabulary
    parts = [
        f"{split.characters:,} {name}" for name, split in corpus.splits.items() if split.characters
    ]
    unknown = ", one for the unknown" if vocabulary.has_unknown else ""
    say(f"text        {' + '.join(parts)} characters")
    say(f"vocabulary  {len(vocabulary):,} symbols ({vocabulary.unit}{unknown})")
    for name, split in corpus.splits.items():
        if split.unknown:
            times = f"{sum(split.unknown.values()):,}"
            kinds = f"{len(split.unknown):,}"
            say(f"unknown     {times} times in {name}, {kinds} kinds: {named(split.unknown)}")
    if not corpus.splits["validation"].characters:
        say("evaluation  on the train split: this configuration holds nothing out")


def introduce(config: Config, parameters: int, place: dict[str, Any], path: Path) -> None:
    """What is about to be trained, on what, and where the run is kept."""
    model = config.model
    on = f"{place['device']} in {place['precision']}"
    if place["device"] == "cpu":
        threads = place["threads"]
        on = f"cpu, {threads} thread{'s' if threads > 1 else ''}, {place['precision']}"
        on += ", native kernels" if place["engine"] == "native" else ", torch"
    sizes = f"{model.num_layers} x {model.hidden_size}"
    say(f"model       {model.cell} {sizes}, {parameters:,} parameters; {on}")
    say(f"run         {path}")


def conclude(summary: dict[str, Any], prompt: str) -> None:
    """The end of a run: what came out, and the command to try next."""
    endings = {
        "steps": "all steps taken",
        "time": "time is up",
        "target": "target reached",
        "signal": "stopped on request",
    }
    speed = f"{summary['characters_per_second']:,.0f} characters/s"
    tell(
        f"{endings[summary['stopped_by']]}: step {summary['steps']:,}, "
        f"{duration(summary['seconds'])} of training, {speed}"
    )
    if best := summary["best"]:
        tell(
            f"best: {best['loss']:.4f} nats a symbol = {best['bits_per_character']:.4f} "
            f"bits per character, at step {best['step']:,}"
        )
    if summary["stopped_by"] == "signal":
        tell(f"next: charlm train --resume --run {summary['run']}", "bold")
    else:
        quoted = f' --prompt "{prompt}"' if prompt else ""
        tell(f"next: charlm sample {summary['run']}{quoted}", "bold")


def predictions_table(
    inputs: Iterable[str], targets: Iterable[str], symbols: list[str], rows: list[list[float]]
) -> None:
    """Each input character, its target and the predicted distribution, as the lecture draws it."""
    table = Table(title="what the model predicts", title_style="bold", title_justify="left")
    table.add_column("input")
    table.add_column("target")
    for symbol in symbols:
        table.add_column(Text(f"p({visible(symbol)})"), justify="right")
    for given, target, row in zip(inputs, targets, rows, strict=True):
        cells = [
            Text(f"{p:.3f}", style="bold green" if symbol == target else "dim")
            for symbol, p in zip(symbols, row, strict=True)
        ]
        table.add_row(Text(visible(given)), Text(visible(target)), *cells)
    out.print(table)


def settings_table(config: Config, origins: dict[str, str]) -> None:
    """Every key, its value and where it came from."""
    table = Table(box=None, pad_edge=False)
    for column in ("key", "value", "from"):
        table.add_column(column, overflow="fold")
    for section in SECTIONS:
        for key, value in getattr(config, section).model_dump().items():
            origin = origins.get(f"{section}.{key}", "default")
            style = "dim" if origin == "default" else ""
            cells = (f"{section}.{key}", str(value), origin)
            table.add_row(*(Text(visible(cell), style=style) for cell in cells))
    out.print(table)


def estimated(estimate: dict[str, Any]) -> None:
    tell(
        f"{estimate['parameters']:,} parameters; {estimate['characters_per_second']:,.0f} "
        f"characters/s here, so about {duration(estimate['seconds'])} of training for "
        f"{estimate['passes']:.1f} passes over the text; "
        f"{estimate['peak_memory_bytes'] / 1e6:,.0f} MB of memory"
    )


def bench_heading(place: dict[str, object], batch_size: int, length: int) -> None:
    tell(
        f"{place['processor']}, {place['threads']} threads, torch {place['torch']}; "
        f"{batch_size} lanes of {length} symbols; writing one text on one thread"
    )
    tell("")
    tell(
        f"{'':<22} {'':>7} {'train, symbols/s':>25} {'':>7} {'of matrix':>10} "
        f"{'write, symbols/s':>26} {'of reading':>11}"
    )
    tell(
        f"{'cell':<22} {'shape':>7} {'native':>9} {'torch':>8} {'ratio':>6} {'auto':>7} "
        f"{'product':>10} {'float32':>8} {'bfloat16':>8} {'int8':>8} {'weights':>11}"
    )


def bench_row(row: Row) -> None:
    native, by_torch = row.train.get("native"), row.train["torch"]
    ratio = f"{native / by_torch:.1f}x" if native else "-"
    write = " ".join(_count(row.write.get(name), 8) for name in ("float32", "bfloat16", "int8"))
    share = f"{row.read_share:.0%}" if row.read_share else "-"
    tell(
        f"{row.cell:<22} {f'{row.hidden_size}x{row.num_layers}':>7} {_count(native, 9)} "
        f"{_count(by_torch, 8)} {ratio:>6} {row.picked[0]:>7} {row.matrix_share:>10.0%} "
        f"{write} {share:>11}"
    )


def _count(value: float | None, width: int) -> str:
    return f"{value:{width},.0f}" if value else f"{'-':>{width}}"


def scored(result: Scored) -> None:
    score = result.score
    protocol = f"windows of {result.window}" if result.window else "stateful"
    tell(f"{score.bits_per_character:.4f} bits per character, {score.bits_per_byte:.4f} per byte")
    tell(
        f"{score.characters:,} characters, {score.loss:.4f} nats a symbol, "
        f"perplexity {score.perplexity:.3f}, protocol: {protocol}"
    )
    if result.unknown_characters:
        tell(f"{result.unknown_characters:,} characters were unknown to the model")


def surprisal_lines(result: Scored, vocabulary: Vocabulary) -> None:
    """A line a symbol: its surprisal in bits, a tab, the symbol as a JSON string."""
    import json

    for index, nats in zip(result.symbols.tolist(), result.surprisals.tolist(), strict=True):
        print(f"{nats / math.log(2):.4f}\t{json.dumps(vocabulary.symbol(index))}")


class Writer:
    """Model text on stdout: visible control characters on a terminal, the very text in a pipe."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        if not self._terminal and hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape", newline="")
        self._last = "\n"

    def write(self, text: str) -> None:
        if not text:
            return
        sys.stdout.write(visible(text) if self._terminal else text)
        if self._terminal:
            sys.stdout.flush()
        self._last = text[-1]

    def end_line(self) -> None:
        """Begin a new line unless one has just begun."""
        if self._last != "\n":
            sys.stdout.write("\n")
            self._last = "\n"
