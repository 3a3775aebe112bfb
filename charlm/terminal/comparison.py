"""Output of a comparison on the terminal: progress of the whole plan, then its tables."""

import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.text import Text

from charlm.common.wording import byte_size, spread_text
from charlm.comparison.claims import ABSENT
from charlm.comparison.curves import FEW
from charlm.comparison.execution import Stage
from charlm.comparison.runs import Advanced, Begun, Diverged, RunnerEvent
from charlm.terminal.console import duration, out, print_columns, print_result, print_status, warn
from charlm.terminal.training import bar
from charlm.training.events import Finished, Trained

SECONDS_BETWEEN_LINES = 10.0
LONGEST_NAME = 8
MOST_OF_SEARCH = 3
"""Most sentences about a search; the page has the others."""


class ComparisonProgress:
    """Display of a comparison's events. Use it as a context manager around the loop."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self._began = self._last_line = time.monotonic()
        self._bar = None if quiet else bar(1.0, 0.0, "{desc}")

    def __enter__(self) -> "ComparisonProgress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, event: Stage | RunnerEvent) -> None:
        """Show an event."""
        match event:
            case Stage():
                self._line(event.doing, "heading")
            case Begun():
                self._begun(event)
            case Advanced():
                self._advanced(event)
            case Diverged():
                self._line(f"{event.planned.name}: {event.error.what}", "warning")

    def _begun(self, event: Begun) -> None:
        if event.differences:
            listed = "; ".join(event.differences)
            warn(f"{event.planned.name} was not trained under the same conditions: {listed}")
        if event.reused:
            self._line(f"run {event.number}/{event.total} · {event.planned.name} · found finished")
        elif event.step:
            place = f"run {event.number}/{event.total} · {event.planned.name}"
            self._line(f"{place} · on from step {event.step:,}")
        self._at = f"run {event.number}/{event.total}"

    def _advanced(self, event: Advanced) -> None:
        train = event.event
        left = f"{duration(event.seconds_left)} left of the runs"
        name = f"{self._at} · {event.planned.name}"
        if isinstance(train, Trained):
            status = (
                f"{name} · step {train.step:,}/{event.planned.steps:,} · "
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
            print_status(text, style)


def conclude(result: dict[str, Any]) -> None:
    """Print the verdict, the table, the baselines and the claims."""
    for number, sentence in enumerate(result["verdict"]):
        print_result(sentence, "" if number else "heading")
    print_result("")
    seeds = len(result["seeds"])
    if result["task"]:
        _print_answers(result["task"], _names(result), seeds)
        print_result("")
    print_result(
        "bits per character on the validation split, lower is better"
        + (f"; mean ± standard deviation of {seeds} seeds" if seeds > 1 else "; one seed")
    )
    _print_rows(result)
    for name, row in zip(_names(result), result["rows"], strict=True):
        if name != row["cell"]:
            print_result(f"{name} is {row['cell']}")
    print_result(
        "to weakest: training until the mean reached the final one of the weakest; "
        "/s: characters per second; peak: of the process"
    )
    print_result(result["test"]["sentence"])
    print_result(_baselines(result))
    for pair in _described(result):
        print_result(pair["two_way"]["sentence"])
    for sentence in result["curves"]["sentences"]:
        print_result(sentence)
    if result["search"]:
        for sentence in result["search"]["sentences"][:MOST_OF_SEARCH]:
            print_result(sentence)
    print_result("")
    print_judged(result)


def print_judged(result: dict[str, Any]) -> None:
    """Print the claims, the notes, the plan and the path of the report."""
    print_result("the lecture's claims, judged from these runs")
    judged = [one for one in result["claims"] if not one["evidence"].endswith(ABSENT)]
    for claim in judged:
        _claim(claim)
    if others := len(result["claims"]) - len(judged):
        print_result(f"  {others} claims are about cells that {ABSENT}")
    for note in result["notes"]:
        print_result(f"note: {note}")
    print_result(_plan(result["plan"]))
    print_result("")
    print_result(f"report: {result['report']}", "next")


def _print_answers(task: dict[str, Any], names: list[str], seeds: int) -> None:
    """Print the share of right answers of every cell at every length. names: of the cells."""
    share = f"{100 * task['least_share']:g} %"
    print_result(
        f"{task['name']}, as in {task['example']}: answers wholly right"
        + (f"; mean of {seeds} seeds, and how many reach {share}" if seeds > 1 else "; one seed")
    )
    heading = [
        f"{test['times']}x: {test['lengths'][0]} to {test['lengths'][1]}" for test in task["tests"]
    ]
    rows = [
        [
            name,
            *(
                f"{100 * one['right']['mean']:.1f} % ({one['seeds_solved']} of {seeds})"
                for one in row["scores"]
            ),
        ]
        for name, row in zip(names, task["rows"], strict=True)
    ]
    guesses = [
        f"{100 * test['chance']:.1f} %" + " " * len(f" (0 of {seeds})") for test in task["tests"]
    ]
    styles = [
        "best" if row["solved_to"] == task["tests"][-1]["times"] else "" for row in task["rows"]
    ]
    print_columns(
        ["cell", *heading],
        [*rows, ["guessing", *guesses]],
        right=range(1, 1 + len(heading)),
        styles=[*styles, "aside"],
    )


def _described(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the differences to print: all of a few cells, else those to the best one."""
    if len(result["rows"]) <= FEW:
        return list(result["differences"])
    best = min(result["rows"], key=lambda row: float(row["bits_per_character"]["mean"]))["cell"]
    return [pair for pair in result["differences"] if best in pair["cells"]]


def _print_rows(result: dict[str, Any]) -> None:
    """Print the table of the cells; in two parts if it is wider than the terminal."""
    best = min(result["rows"], key=lambda row: float(row["bits_per_character"]["mean"]))
    heading = ("cell", *COLUMNS)
    rows = [(name, *_cells(row)) for name, row in zip(_names(result), result["rows"], strict=True)]
    styles = ["best" if row is best else "" for row in result["rows"]]
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    fits = sum(widths) + 2 * len(widths) <= out.width
    parts = (
        [range(len(heading))] if fits else [(0, *range(1, SPLIT)), (0, *range(SPLIT, len(heading)))]
    )
    for number, part in enumerate(parts):
        if number:
            print_result("")
        print_columns(
            [heading[at] for at in part],
            [[row[at] for at in part] for row in rows],
            right=range(1, len(heading)),
            styles=styles,
        )


COLUMNS = ("width", "params", "bits/char", "to weakest", "train/s", "write/s", "peak")
SPLIT = 4
"""Column at which the table is cut in two: scores and costs."""


def _cells(row: dict[str, Any]) -> list[str]:
    reached, peak = row["seconds_to_weakest"]["mean"], row["peak_memory_bytes"]
    return [
        f"{row['hidden_size']}",
        f"{row['parameters']:,}",
        spread_text(row["bits_per_character"]),
        "-" if reached is None else f"{reached:.1f} s",
        _thousands(row["characters_per_second"]),
        _thousands(row["sample_characters_per_second"]),
        "-" if peak is None else byte_size(peak),
    ]


def _names(result: dict[str, Any]) -> list[str]:
    return short_names([row["cell"] for row in result["rows"]])


def short_names(labels: Sequence[str]) -> list[str]:
    """Return the cells' labels if they are short enough for the table, else numbered names."""
    return [
        label if len(label) <= LONGEST_NAME else f"{label.partition(':')[0]} ({number})"
        for number, label in enumerate(labels, start=1)
    ]


def _claim(claim: dict[str, Any]) -> None:
    style = {"holds": "good", "does not hold": "bad", "not shown": "doubtful"}[claim["verdict"]]
    line = Text(f"  {claim['verdict']:<14}", style=style)
    line.append(claim["claim"], style="default")
    out.print(line)
    out.print(Text(f"  {'':<14}{claim['evidence']}", style="aside"))


def _baselines(result: dict[str, Any]) -> str:
    bits, order = result["baselines"], result["ngram_order"]
    return (
        f"without a network: uniform {bits['uniform']:.3f}, unigram {bits['unigram']:.3f}, "
        f"xz {bits['xz']:.3f}, {order}-gram {bits['ngram']:.3f}"
    )


def _plan(plan: dict[str, Any]) -> str:
    amended = f"; amended {len(plan['amends'])} times" if plan["amends"] else ""
    return f"plan: {plan['path']}, written {plan['written']}{amended}; SHA-256 {plan['sha256']}"


def _thousands(value: float) -> str:
    return f"{value / 1000:,.0f}k" if value >= 20_000 else f"{value / 1000:,.1f}k"
