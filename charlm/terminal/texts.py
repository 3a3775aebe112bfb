"""Output of a comparison on several texts: the cells on each, and the differences over all."""

from typing import Any

from charlm.common.wording import spread_text
from charlm.comparison.over_texts import described
from charlm.terminal.comparison import print_judged, short_names
from charlm.terminal.console import print_columns, print_result


def conclude(result: dict[str, Any]) -> None:
    """Print the verdict, the cells and their differences on each text, and the claims."""
    for number, sentence in enumerate(result["verdict"]):
        print_result(sentence, "" if number else "heading")
    print_result("")
    _print_bits(result)
    if result["over_texts"]["described"]:
        print_result("")
        _print_differences(result)
    print_result("")
    print_judged(result)


def _print_bits(result: dict[str, Any]) -> None:
    """Print the bits of every cell on every text, with the n-gram model's."""
    over, seeds = result["over_texts"], len(result["seeds"])
    print_result(
        "bits per character on the validation split, lower is better"
        + (f"; mean ± standard deviation of {seeds} seeds" if seeds > 1 else "; one seed")
    )
    labels = [row["cell"] for row in over["rows"]]
    names = short_names(labels)
    rows = [
        [
            text["name"],
            *(spread_text(row["bits_per_character"]) for row in text["rows"]),
            f"{text['baselines']['ngram']:.3f}",
        ]
        for text in result["texts"]
    ]
    means = ["mean", *(f"{row['bits_per_character']['mean']:.3f}" for row in over["rows"]), ""]
    heading = ["text", *names, "n-gram"]
    styles = [*("" for _ in rows), "heading"]
    print_columns(heading, [*rows, means], right=range(1, len(heading)), styles=styles)
    for name, label in zip(names, labels, strict=True):
        if name != label:
            print_result(f"{name} is {label}")


def _print_differences(result: dict[str, Any]) -> None:
    """Print the differences on every text and over all, each with its interval."""
    over = result["over_texts"]
    names = dict(
        zip(
            [row["cell"] for row in over["rows"]],
            short_names([row["cell"] for row in over["rows"]]),
            strict=True,
        )
    )
    shown = described(result)
    print_result(
        "difference in bits per character, with its interval of 95 %: on a text over the seeds, "
        "in the last line over the texts"
    )
    rows = [
        [text["name"], *(_difference(pair["by_text"][at]) for pair in shown)]
        for at, text in enumerate(result["texts"])
    ]
    rows.append([f"all {len(rows)} texts", *map(_difference, shown)])
    heading = ["text", *(" - ".join(names[cell] for cell in pair["cells"]) for pair in shown)]
    styles = [*("" for _ in rows[1:]), "heading"]
    print_columns(heading, rows, right=range(1, len(heading)), styles=styles)


def _difference(one: dict[str, Any]) -> str:
    """Format a difference, with its interval if there is one."""
    if one["low"] is None:
        return f"{one['mean']:+.3f}"
    return f"{one['mean']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"
