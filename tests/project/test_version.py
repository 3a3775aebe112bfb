"""The version: one place, and the changelog's newest release."""

import re
import tomllib
from pathlib import Path

from conftest import Command

from charlm.common.version import __version__

ROOT = Path(__file__).parents[2]


def test_package_command_and_changelog_have_one_version(command: Command) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in project["project"]["dynamic"]
    source = (ROOT / project["tool"]["hatch"]["version"]["path"]).read_text(encoding="utf-8")
    assert re.findall(r'^__version__ = "(.*)"$', source, re.MULTILINE) == [__version__]
    assert command("--version").stdout == f"charlm {__version__}\n"
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## (\d\S*) \(\d{4}-\d\d-\d\d\)$", changes, re.MULTILINE)
    assert released[0] == __version__
    assert re.findall(r"^## (\d\S*)", changes, re.MULTILINE) == released
