"""From a command line to its exit code."""

from charlm import consent
from charlm.cli import analysis  # noqa: F401 (its commands)
from charlm.cli.app import app
from charlm.cli.outcome import exit_code_of
from charlm.cli.question import may_open


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    with consent.asking(may_open):
        return exit_code_of(lambda: app(arguments, prog_name="charlm", standalone_mode=False))
