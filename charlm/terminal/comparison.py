"""A comparison on the terminal: progress of the whole plan, then its tables."""

import sys
import time
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from charlm.compare.comparison import Stage
from charlm.compare.runs import Advanced, Begun, Diverged, RaceEvent
from charlm.compare.table import spread_text
from charlm.terminal.console import duration, out, say, tell, warn
from charlm.terminal.training import bar
from charlm.training.events import Finished, Trained

SECONDS_BETWEEN_LINES = 10.0
LONGEST_NAME = 8


class Progress:
    """Shows the events of a comparison. Use as a context manager around the loop."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self._began = self._last_line = time.monotonic()
        self._bar = None if quiet else bar(1.0, 0.0, "{desc}")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, event: Stage | RaceEvent) -> None:
        match event:
            case Stage():
                self._line(event.doing, "bold")
            case Begun():
                self._begun(event)
            case Advanced():
                self._advanced(event)
            case Diverged():
                self._line(f"{event.leg.name}: {event.error.what}", "yellow")

    def _begun(self, event: Begun) -> None:
        if event.differences:
            listed = "; ".join(event.differences)
            warn(f"{event.leg.name} was not trained under the same conditions: {listed}")
        if event.reused:
            self._line(f"run {event.number}/{event.total} · {event.leg.name} · found finished")
        elif event.step:
            self._line(
                f"run {event.number}/{event.total} · {event.leg.name} · on from step {event.step:,}"
            )
        self._at = f"run {event.number}/{event.total}"

    def _advanced(self, event: Advanced) -> None:
        train = event.event
        left = f"{duration(event.seconds_left)} left of all"
        name = f"{self._at} · {event.leg.name}"
        if isinstance(train, Trained):
            status = (
                f"{name} · step {train.step:,}/{event.leg.steps:,} · "
                f"{train.bits_per_character:.3f} bits/char · {left}"
            )
            if self._bar is not None:
                gone = time.monotonic() - self._began
                self._bar.n = gone / max(gone + event.seconds_left, 1e-9)
                self._bar.set_description_str(status, refresh=True)
            elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
                self._line(status)
        elif isinstance(train, Finished):
            best = train.summary["best"]
            reached = f"{best['bits_per_character']:.4f} bits/char" if best else "not evaluated"
            self._line(
                f"{name} · {reached} · {duration(train.summary['seconds'])} · "
                f"{train.summary['characters_per_second']:,.0f} chars/s · {left}"
            )

    def _line(self, text: str, style: str = "") -> None:
        if self.quiet:
            return
        self._last_line = time.monotonic()
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            say(text, style)


def conclude(result: dict[str, Any]) -> None:
    """The verdict, the table, the baselines and the claims."""
    for number, sentence in enumerate(result["verdict"]):
        tell(sentence, "" if number else "bold")
    tell("")
    seeds = len(result["seeds"])
    tell(
        "bits per character on the validation split, lower is better"
        + (f"; mean ± standard deviation of {seeds} seeds" if seeds > 1 else "; one seed")
    )
    out.print(_rows(result))
    for name, row in zip(_names(result), result["rows"], strict=True):
        if name != row["cell"]:
            tell(f"{name} is {row['cell']}")
    tell(
        "to weakest: training until the mean was where the weakest ends; /s: characters a second; "
        "peak: of the process"
    )
    tell(_baselines(result))
    tell("")
    tell("what the lecture claims, judged from these runs")
    for claim in result["claims"]:
        _claim(claim)
    for note in result["notes"]:
        tell(f"note: {note}")
    tell("")
    tell(f"report: {result['report']}", "bold")


def _rows(result: dict[str, Any]) -> Table:
    """Long names are numbered; `conclude` says which is which."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("cell", no_wrap=True)
    for column in ("width", "params", "bits/char", "to weakest", "train/s", "write/s", "peak"):
        table.add_column(column, justify="right", no_wrap=True)
    best = min(result["rows"], key=lambda row: float(row["bits_per_character"]["mean"]))
    for name, row in zip(_names(result), result["rows"], strict=True):
        reached, peak = row["seconds_to_weakest"]["mean"], row["peak_memory_bytes"]
        cells = [
            name,
            f"{row['hidden_size']}",
            f"{row['parameters']:,}",
            spread_text(row["bits_per_character"]),
            "-" if reached is None else f"{reached:.1f} s",
            _thousands(row["characters_per_second"]),
            _thousands(row["sample_characters_per_second"]),
            "-" if peak is None else f"{peak / 1e6:,.0f} MB",
        ]
        table.add_row(*map(Text, cells), style="bold" if row is best else "")
    return table


def _names(result: dict[str, Any]) -> list[str]:
    """The cells' labels where they are short enough for the table, else numbered names."""
    labels = [row["cell"] for row in result["rows"]]
    return [
        label if len(label) <= LONGEST_NAME else f"{label.partition(':')[0]} ({number})"
        for number, label in enumerate(labels, start=1)
    ]


def _claim(claim: dict[str, Any]) -> None:
    style = {"holds": "green", "does not hold": "red", "not shown": "yellow"}[claim["verdict"]]
    line = Text(f"  {claim['verdict']:<14}", style=style)
    line.append(claim["claim"], style="default")
    out.print(line)
    out.print(Text(f"  {'':<14}{claim['evidence']}", style="dim"))


def _baselines(result: dict[str, Any]) -> str:
    bits, order = result["baselines"], result["ngram_order"]
    return (
        f"without a network: uniform {bits['uniform']:.3f}, unigram {bits['unigram']:.3f}, "
        f"xz {bits['xz']:.3f}, {order}-gram {bits['ngram']:.3f}"
    )


def _thousands(value: float) -> str:
    return f"{value / 1000:,.0f}k" if value >= 20_000 else f"{value / 1000:,.1f}k"
