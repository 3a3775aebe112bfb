"""What charlm writes, told from texts to learn from: by a folder's names, or by a mark in a file.

It is never part of a text, so that a folder may hold what was made of it.
"""

import contextlib
from collections.abc import Set
from pathlib import Path

MARKER = ".charlm-output"
"""An empty file in a folder all of which charlm wrote, where its other names do not show that."""
PAGE_MARK = b'<meta name="generator" content="charlm">'
PICTURE_MARK = b"Software\0charlm"
CONFIG_MARK = "# charlm init"
MARKED_WITHIN = 2048
"""Bytes from a file's start within which a mark stands."""

A_RUN, A_COMPARISON = "a run of charlm", "a comparison of charlm"

BARELY_BEGUN = {
    *(".lock", "checkpoints", "config.toml", "metrics.jsonl", "vocabulary.json"),
    *(".config.toml.writing", ".vocabulary.json.writing", ".metrics.jsonl.writing"),
}
"""What a run may have before its first checkpoint."""
CHECKPOINT = {"manifest.json", "model.safetensors", "state.json"}
COMPARISON_FOLDERS = {"figures", "longer", "measured", "runs", "tune"}
COMPARISON = {".lock", "compare.json", "report.html", "timing.json", *COMPARISON_FOLDERS}
"""What a comparison may have; earlier versions', too."""


def own_names(names: Set[str]) -> tuple[str, Set[str]]:
    """Find what charlm wrote in a folder with these names; return what that is, and its names.

    All of a run is its own. A comparison may stand beside texts: only its names are.
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
    """Return True if the first bytes of a file say that charlm wrote it: a page, a picture, or a
    configuration to start from."""
    start = head[:MARKED_WITHIN]
    if start.startswith(b"\x89PNG"):
        return PICTURE_MARK in start
    return PAGE_MARK in start or start.startswith(CONFIG_MARK.encode())


def mark(folder: Path) -> None:
    """Mark a folder as written by charlm, all of it. Raises: OSError."""
    with contextlib.suppress(FileExistsError):
        (folder / MARKER).open("xb").close()
