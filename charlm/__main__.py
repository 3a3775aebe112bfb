"""The entry point. Signals first, so that Ctrl-C while the rest is imported leaves no traceback."""

import os

from charlm.cli import signals, streams


def main() -> None:
    signals.exit_on_signals()
    streams.secure()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # to look for some takes 20 ms
    code = run()
    streams.discard_unwritten()
    signals.leave(code)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    from charlm.cli import dispatch

    return dispatch.run(arguments)


if __name__ == "__main__":
    main()
