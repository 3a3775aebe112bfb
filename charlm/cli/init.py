"""`charlm init`."""

import sys
from pathlib import Path

from charlm.cli.options import refuse_no_file
from charlm.config import loading
from charlm.errors import UsageError
from charlm.outputs import CONFIG_MARK


def init(preset: str, out: Path | None) -> None:
    """Write a preset's TOML to stdout, or to a new file."""
    refuse_no_file(out, "--out")
    text = f"{CONFIG_MARK} {preset}\n{loading.preset_text(preset)}"
    if out is None:
        sys.stdout.write(text)
        return
    created = False
    try:
        with out.open("x", encoding="utf-8") as file:
            created = True
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{out} exists", "give another --out, or remove it") from None
    except OSError as error:
        if created:  # half of it is worse than none
            out.unlink(missing_ok=True)
        raise UsageError(f"cannot write {out}: {error.strerror}", "give another --out") from None
