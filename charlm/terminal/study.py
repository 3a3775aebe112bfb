"""The outcome of a study on the terminal."""

import math
from typing import Any

from charlm.compare.table import spread_text
from charlm.terminal.console import print_columns, print_result


def conclude(result: dict[str, Any]) -> None:
    """Print what came out beside what was published."""
    print_result(result["title"], "bold")
    print_result(f"the paper says: {result['finding']}")
    print_result("")
    for sentence in result["sentences"]:
        print_result(sentence)
    print_result("")
    print_result("bits per character on the validation split, lower is better")
    rows = [
        [
            group["name"],
            *(spread_text(row["bits_per_character"]) for row in group["rows"]),
            f"{group['ngram']:.3f}",
        ]
        for group in result["groups"]
    ]
    columns = len(result["cells"]) + 1
    print_columns(["", *result["cells"], "n-gram"], rows, right=range(1, columns + 1))
    for one in result["published"]:
        bits = one["nats"] / math.log(2)
        print_result(f"published: {one['what']}, {one['nats']:.3f} nats, {bits:.3f} bits")
    print_result(f"source: {result['source']}")
    print_result("")
    print_result(f"report: {result['report']}", "bold")
