"""Recognition of charlm's own output, by the names in a folder or by a mark in a file.

Output is never part of a text, so that a folder of texts may also contain the runs made from them.
"""

import contextlib
import re
from collections.abc import Set
from pathlib import Path

MARKER = ".charlm-output"
"""Empty file that marks a folder as written by charlm, if its other names do not show it."""
PAGE_MARK = b'<meta name="generator" content="charlm">'
PICTURE_MARK = b"Software\0charlm"
CONFIG_MARK = "# charlm init"
MARKED_WITHIN = 2048
"""Bytes from a file's start that contain the mark."""

A_RUN, A_COMPARISON = "a run of charlm", "a comparison of charlm"

BARELY_BEGUN = {
    *(".lock", "checkpoints", "config.toml", "metrics.jsonl", "vocabulary.json"),
    *(".config.toml.writing", ".vocabulary.json.writing", ".metrics.jsonl.writing"),
}
"""Names that a run may have before its first checkpoint."""
CHECKPOINT = {"manifest.json", "model.safetensors", "state.json"}
COMPARISON_FOLDERS = {"figures", "longer", "measured", "runs", "tune"}
COMPARISON = {
    *(".lock", "compare.json", "plan.json", ".plan.json", "report.html", "timing.json"),
    *COMPARISON_FOLDERS,
}
"""Names that a comparison may have, also of earlier versions."""
SERIES_FOLDERS = {"figures"}
SERIES = {
    *(MARKER, ".lock", "compare.json", "plan.json", ".plan.json", "report.html"),
    *("study.json", "study.html"),
    *SERIES_FOLDERS,
}
"""Names that a series of comparisons may have, besides the comparisons' folders."""
RANDOM_TEXT = re.compile(r"random-(\d+)\.txt")
"""Name of a text that a study has drawn, with its bytes."""


def own_names(names: Set[str]) -> tuple[str, Set[str]]:
    """Return the kind of charlm's output in a folder with these names, and the names of it.

    In a run all names are charlm's. A comparison may be in a folder of texts: only its names are.
    """
    if MARKER in names:
        return "made by charlm", names
    is_begun = {"checkpoints", "vocabulary.json"} <= names and names & {
        *("config.toml", "metrics.jsonl")
    }
    if is_begun or (".lock" in names and names <= BARELY_BEGUN):
        return A_RUN, names
    if names >= CHECKPOINT:
        return "a checkpoint of charlm", names
    if "runs" in names and ("compare.json" in names or {".lock", "measured"} <= names):
        return A_COMPARISON, names & COMPARISON
    return "", frozenset()


def is_marked(head: bytes) -> bool:
    """Return True if the first bytes of a file have charlm's mark: a page, a picture, or a
    configuration of `charlm init`."""
    start = head[:MARKED_WITHIN]
    if start.startswith(b"\x89PNG"):
        return PICTURE_MARK in start
    return PAGE_MARK in start or start.startswith(CONFIG_MARK.encode())


def mark(folder: Path) -> None:
    """Mark an entire folder as written by charlm. Raises: OSError."""
    with contextlib.suppress(FileExistsError):
        (folder / MARKER).open("xb").close()
