"""Messages and exit codes of errors, for all commands."""

import contextlib
import os
import re
import shlex
import sys
from collections.abc import Callable

import typer

from charlm.cli.options import Debugging
from charlm.common.errors import CharlmError, UsageError, from_system


def exit_code_of(command: Callable[[], object]) -> int:
    """Carry out a command, report its error if there is one, and return its exit code."""
    try:
        result = command()
        sys.stdout.flush()
    except CharlmError as error:
        if Debugging.wanted:
            raise
        report(error)
        return error.exit_code
    except typer.TyperException as error:  # a command line that cannot be parsed
        report(UsageError(error.format_message(), _advice(error)))
        return 2
    except (KeyboardInterrupt, typer.Abort):
        return _stopped(130)
    except SystemExit as error:  # of a signal; typer's is 1, for a broken pipe
        is_signal = isinstance(error.code, int) and error.code > 128
        return _stopped(int(error.code or 0)) if is_signal else 0
    except BrokenPipeError:  # the reader, such as `head`, has ended
        return 0
    except OSError as error:
        if Debugging.wanted:
            raise
        loading = error.errno is None and of_memory(error)  # torch loads libraries by ctypes
        found = unforeseen(error) if loading else from_system(error)
        report(found)
        return found.exit_code
    except (MemoryError, RuntimeError, ImportError) as error:
        if Debugging.wanted:
            raise
        report(unforeseen(error))
        return 1
    return result if isinstance(result, int) else 0


def _stopped(code: int) -> int:
    """Print that a signal has stopped the command, once for several processes; return the code."""
    if os.environ.get("RANK", "0") == "0":
        with contextlib.suppress(OSError, ValueError):  # the terminal is closed
            print("stopped on request", file=sys.stderr, flush=True)
    return code


def _advice(error: typer.TyperException) -> str:
    """Return advice on a command line that cannot be parsed."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "charlm"
    said = error.format_message()
    if (name := getattr(error, "option_name", "")) and said.endswith("requires an argument."):
        return f"give it a value: {name} VALUE"
    if name:
        from charlm.config.messages import key_called

        if command in ("charlm train", "charlm compare") and (key := key_called(_bare(name))):
            counted = " (in steps: --dry-run shows the number of passes over the text)"
            return f"{command} ... --set {key}=VALUE" + (counted if "epoch" in name else "")
    extra = re.search(r"unexpected extra argument\(s\) \((.*)\)$", said, re.S)
    if extra and command == "charlm sample":
        return f"to continue a text: charlm sample RUN --prompt {shlex.quote(extra[1])}"
    if extra and command == "charlm train":
        from charlm.config.presets import names

        if context and (preset := context.params.get("config")) in names():
            named = f"{preset} is a preset; name the text with --data"
            return f"{named}: charlm train {preset} --data {shlex.quote(extra[1])}"
        return f"name several texts as --data: charlm train --data TEXT --data {extra[1]}"
    return f"{command} --help"


def _bare(option: str) -> str:
    """Turn an option into the name of a key, as --batch-size=3 into batch_size."""
    return option.lstrip("-").partition("=")[0].replace("-", "_")


NO_MEMORY = re.compile(
    "allocate memory(?! in static TLS)|bad_alloc|out of memory|not enough memory"
)
"""Parts of the messages of torch and of the system where there is no memory."""
PERHAPS_NO_MEMORY = re.compile(
    "could not (create|execute) a primitive|could not create a memory|can't start new thread"
    "|failed to map segment"
)
"""Messages of oneDNN, torch's library of products, of Python, and of the system where it loads a
library, which name no cause: most often it is memory."""


def of_memory(error: Exception) -> bool:
    """Return True if an error's message is one of those where there is, perhaps, no memory."""
    return any(pattern.search(str(error)) for pattern in (NO_MEMORY, PERHAPS_NO_MEMORY))


def unforeseen(error: Exception) -> CharlmError:
    """Make the error for an unexpected exception."""
    while isinstance(error, ImportError) and isinstance(error.__cause__, ImportError):
        error = error.__cause__  # numpy puts the system's message below a page of advice
    said = str(error).strip().partition("\n")[0]
    advice = "use a smaller model, batch or text, or close other programs"
    if isinstance(error, MemoryError) or NO_MEMORY.search(said):
        detail = f": {said}" if said and "bad_alloc" not in said else ""
        return CharlmError(f"there is not enough memory{detail}", advice)
    if PERHAPS_NO_MEMORY.search(said):
        source = "torch " if said.startswith("could not") else ""
        return CharlmError(f"{source}{said}: perhaps there is not enough memory", advice)
    if isinstance(error, ImportError):
        again = "install charlm again: pip install --force-reinstall charlm"
        return CharlmError(f"a library cannot be loaded: {said}", f"{again}; --debug shows where")
    return CharlmError(f"{type(error).__name__}: {said}", "run again with --debug to see where")


def report(error: CharlmError) -> None:
    """Print an error and its advice."""
    from charlm.terminal import console

    console.error(error.what, error.advice, error.details)
