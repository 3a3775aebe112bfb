"""Remarks on sampled texts."""

from collections.abc import Sequence

from charlm.inspect.copies import LISTED, LONG, SEED, Copied, apart
from charlm.terminal.console import print_status


def novelty(new: int, num: int, known: int) -> None:
    """Print the number of sampled records that no split of the text contains."""
    print_status(
        f"{new:,} of {num:,} new: not one of the {known:,} different records of the text", "aside"
    )


def circles(running: int, num: int) -> None:
    """Print advice if texts run in circles."""
    if running:
        subject = "the text runs" if num == 1 else f"{running:,} of {num:,} texts run"
        print_status(
            f"{subject} in circles: try --repetition-penalty 1.5, or --temperature 1 --min-p 0.05"
        )


def copies(found: Sequence[Copied]) -> None:
    """Print each text's overlap with train: the share of it, and its longest spans."""
    for one in found:
        if not one.spans:
            print_status(f"{one.label} shares no {SEED} characters with train")
            continue
        print_status(
            f"{one.label}: {100 * one.share():.1f} % in spans of {SEED} or more characters that "
            "train "
            f"holds, {100 * one.share(LONG):.1f} % in spans of {LONG} or more"
        )
        for span in apart(list(one.spans), LISTED)[:3]:
            print_status(
                f"  {span.length} at {span.place:,} of train: {one.text_of(span)}", "aside"
            )
