"""The entry point. Handlers come first, so that Ctrl-C during the imports prints no traceback."""

import os
import sys

from charlm.cli import signals, streams, threads


def main() -> None:
    signals.exit_on_signals()
    streams.secure()
    threads.set_up()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # searching for them takes 20 ms
    code = run()
    streams.discard_unwritten()
    signals.leave(code)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        from charlm.cli import app

        return app.run(arguments)
    except (MemoryError, ImportError) as error:  # the modules that print messages included
        if "--debug" in (sys.argv if arguments is None else arguments):
            raise
        cause = str(error).strip().partition("\n")[0] or "there is not enough memory"
        print(f"error: charlm cannot be loaded: {cause}", file=sys.stderr)
        print(
            "help: if memory is short, close other programs, else install charlm again; "
            "--debug shows where it failed",
            file=sys.stderr,
        )
        return 1


if __name__ == "__main__":
    main()
