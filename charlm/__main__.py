"""The entry point: one place where errors become messages and exit codes."""

import os
import re
import shlex
import sys

import typer

from charlm.cli.app import app
from charlm.cli.options import Debugging
from charlm.errors import CharlmError


def main() -> None:
    sys.exit(run())


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        result = app(arguments, prog_name="charlm", standalone_mode=False)
        sys.stdout.flush()
    except CharlmError as error:
        if Debugging.wanted:
            raise
        _report(error.what, error.advice)
        return error.exit_code
    except typer.TyperException as error:  # a command line that cannot be parsed
        _report(error.format_message(), _advice(error))
        return 2
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return 0
    except (MemoryError, RuntimeError, OSError) as error:
        if Debugging.wanted:
            raise
        _report(f"{type(error).__name__}: {error}", "run again with --debug to see where")
        return 1
    return result if isinstance(result, int) else 0


def _advice(error: typer.TyperException) -> str:
    """Say what to type instead of a command line that cannot be parsed."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "charlm"
    if name := getattr(error, "option_name", ""):
        from charlm.config.messages import key_called

        if command in ("charlm train", "charlm compare") and (key := key_called(_bare(name))):
            counted = " (in steps: --dry-run tells how many passes over the text they are)"
            return f"{command} ... --set {key}=VALUE" + (counted if "epoch" in name else "")
    extra = re.search(r"unexpected extra argument\(s\) \((.*)\)$", error.format_message(), re.S)
    if extra and command == "charlm sample":
        return f"to continue a text: charlm sample RUN --prompt {shlex.quote(extra[1])}"
    return f"{command} --help"


def _bare(option: str) -> str:
    """Turn an option into the name of a key: --batch-size=3 into batch_size."""
    return option.lstrip("-").partition("=")[0].replace("-", "_")


def _report(what: str, advice: str) -> None:
    from charlm.terminal import console

    console.error(what, advice)


if __name__ == "__main__":
    main()
