"""The entry point. Handlers come first, so that Ctrl-C during the imports prints no traceback."""

import os

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
    from charlm.cli import app

    return app.run(arguments)


if __name__ == "__main__":
    main()
