"""The question at a terminal for consent to open files named by a foreign run."""

import sys
from collections.abc import Sequence


def may_open(kind: str, names: Sequence[str]) -> bool:
    """Ask at a terminal, and return True if the answer is yes; return False without a terminal.

    Every name is shown in full, with its control characters visible. See `charlm.common.consent`.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    from charlm.terminal import console  # here: it takes a moment

    console.print_question(f"This run was not made here. Its {kind}:", names, "Open it? [y/N] ")
    return sys.stdin.readline().strip().lower() in ("y", "yes")
