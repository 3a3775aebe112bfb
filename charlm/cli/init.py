"""`charlm init`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from charlm.cli.options import Debug
from charlm.common.errors import UsageError
from charlm.common.files import create, refuse_no_file


def init(
    preset: Annotated[str, typer.Argument(help="The preset to write.")] = "default",
    out: Annotated[Path | None, typer.Option(help="A file instead of stdout.")] = None,
    debug: Debug = False,
) -> None:
    """Write a preset as a commented TOML file to start from."""
    from charlm.common.outputs import CONFIG_MARK
    from charlm.config import presets
    from charlm.terminal import console

    refuse_no_file(out, "--out")
    text = f"{CONFIG_MARK} {preset}\n{presets.text(preset)}"
    if out is None:
        sys.stdout.write(text)
        sys.stdout.flush()
        console.print_next(
            "charlm", "init", preset, "--out", "my.toml", after=" makes a file of it"
        )
        return
    try:
        create(out, text.encode("utf-8"))
    except FileExistsError:
        raise UsageError(f"{out} exists", "give another --out, or remove it") from None
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}", "give another --out") from None
    if out.suffix == ".toml":
        console.print_next("charlm", "train", out, "--data", "my.txt")
    else:
        named = out.with_name(f"{out.name}.toml")
        console.print_next("mv", out, named, after=" (charlm train reads files that end in .toml)")
