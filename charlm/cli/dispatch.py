"""From a command line to its exit code."""

from charlm.cli import analysis  # noqa: F401 (its commands)
from charlm.cli.app import app
from charlm.cli.outcome import exit_code_of


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return exit_code_of(lambda: app(arguments, prog_name="charlm", standalone_mode=False))
