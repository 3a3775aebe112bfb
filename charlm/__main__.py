"""The entry point: one place where errors become messages and exit codes."""

import os
import sys

import typer

from charlm.cli import app
from charlm.errors import CharlmError


def main() -> None:
    sys.exit(run())


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        result = app.app(arguments, prog_name="charlm", standalone_mode=False)
        sys.stdout.flush()
    except CharlmError as error:
        if app.debug_wanted:
            raise
        _tell(error.what, error.advice)
        return error.exit_code
    except typer.TyperException as error:  # a command line that cannot be parsed
        context = getattr(error, "ctx", None)
        _tell(error.format_message(), f"{context.command_path if context else 'charlm'} --help")
        return 2
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return 0
    except (MemoryError, RuntimeError, OSError) as error:
        if app.debug_wanted:
            raise
        _tell(f"{type(error).__name__}: {error}", "run again with --debug to see where")
        return 1
    return result if isinstance(result, int) else 0


def _tell(what: str, advice: str) -> None:
    from charlm.terminal import console

    console.error(what, advice)


if __name__ == "__main__":
    main()
