"""`charlm init`."""

import contextlib
import sys
from pathlib import Path

from charlm.config import loading
from charlm.errors import UsageError
from charlm.files import replace


def init(preset: str, out: Path | None) -> None:
    """Write a preset's TOML to stdout, or to a new file."""
    text = loading.preset_text(preset)
    if out is None:
        sys.stdout.write(text)
        return
    try:
        if out.exists() or out.is_symlink():
            raise UsageError(f"{out} exists", "give another --out, or remove it")
        replace(out, text.encode())
    except OSError as error:
        with contextlib.suppress(OSError):
            out.unlink()
        raise UsageError(f"cannot write {out}: {error.strerror}", "give another --out") from None
