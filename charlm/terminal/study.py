"""Output of a study on the terminal."""

import math
from typing import Any

from charlm.common.wording import spread_text
from charlm.terminal.console import print_columns, print_result


def conclude(result: dict[str, Any]) -> None:
    """Print the results and the published figures."""
    print_result(result["title"], "heading")
    print_result(f"the paper says: {result['finding']}")
    print_result("")
    for sentence in result["sentences"]:
        print_result(sentence)
    print_result("")
    memory = result["unit"] == "bits per parameter"
    print_result(
        "bits of a random text for each parameter, higher is better"
        if memory
        else "bits per character on the validation split, lower is better"
    )
    rows = [
        [
            group["name"],
            *(spread_text(row["measured"]) for row in group["rows"]),
            *([] if memory else [f"{group['ngram']:.3f}"]),
        ]
        for group in result["groups"]
    ]
    heading = ["", *result["cells"], *([] if memory else ["n-gram"])]
    print_columns(heading, rows, right=range(1, len(heading)))
    for one in result["published"]:
        bits = f" ({one['value'] / math.log(2):.3f} bits)" if one["unit"] == "nats" else ""
        print_result(f"published: {one['what']}: {one['value']:g} {one['unit']}{bits}")
    print_result(f"source: {result['source']}")
    print_result("")
    print_result(f"report: {result['report']}", "next")
