"""The documents: their commands run, their links lead somewhere, their help pages are today's."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import begun, charlm, words

from charlm.config import presets

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
HELP = ROOT / "charlm" / "cli" / "README.md"
DOCUMENTS = [path for path in ROOT.rglob("*.md") if not {".venv", ".git"} & set(path.parts)]

HEADING = """# The commands

The help page of every command, as `charlm COMMAND --help` prints it. This file is written by
`UPDATE_HELP=1 pytest tests/project/test_readme.py`, and a test compares it with the program.
"""

# The README shows these at full length; here they are cut short, with the same code underneath.
SHORTER = {
    "train": ["--set", "train.steps=30", "--set", "train.eval_every=15"],
    "compare": ["--seeds", "1", "--set", "train.steps=8", "--set", "train.eval_every=4"],
    "bench": ["--rounds", "1", "--shape", "32x1"],
    "sample": ["--length", "20"],
}


def help_pages() -> str:
    """Print every command's help, 100 columns wide."""
    environment = {**os.environ, "COLUMNS": "100"}

    def page(*command: str) -> str:
        words_typed = [sys.executable, "-m", "charlm", *command, "--help"]
        done = subprocess.run(
            words_typed, env=environment, capture_output=True, text=True, check=True
        )
        return f"```text\n{done.stdout.rstrip()}\n```\n"

    first = page()
    listed = first.partition("Commands:\n")[2].partition("\n\n")[0]
    names = [line.split()[0] for line in listed.splitlines()]
    pages = [f"\n## charlm {name}\n\n{page(name)}" for name in names]
    return "\n".join([HEADING, first]) + "".join(pages)


def test_help_pages_are_those_of_the_program() -> None:
    found = help_pages()
    if os.environ.get("UPDATE_HELP"):
        HELP.write_text(found, encoding="utf-8")
    assert HELP.read_text(encoding="utf-8") == found


def commands() -> list[list[str]]:
    """Every charlm command of the README, in order."""
    text = README.read_text(encoding="utf-8")
    found = []
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            typed = line.removeprefix("$ ") if language == "text" else line
            if typed.startswith("charlm ") and (language == "sh" or line.startswith("$ ")):
                found.append(shlex.split(typed, comments=True))
    return found


def test_readme_commands_run_in_the_order_in_which_they_stand(tmp_path: Path) -> None:
    (tmp_path / "my.txt").write_text(words(1500), encoding="utf-8")
    shutil.copy(tmp_path / "my.txt", tmp_path / "other.txt")
    names = "\n".join(words(600).split()[i] + str(i) for i in range(100))
    (tmp_path / "list.txt").write_text(names, encoding="utf-8")
    ran = commands()
    assert len(ran) >= 8
    for command in ran:
        shorter = [] if command == ["charlm", "train"] else SHORTER.get(command[1], [])
        if "--resume" in command:
            shorter = []
        done = charlm(*command[1:], *shorter, cwd=tmp_path)
        assert done.returncode == 0, (command, done.stderr)


def test_readme_python_runs(tmp_path: Path) -> None:
    (tmp_path / "my.txt").write_text(words(1500), encoding="utf-8")
    (code,) = re.findall(
        r"^```python\n(.*?)^```", README.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    shorter = code.replace(
        'charlm.train(data="my.txt")', 'charlm.train(data="my.txt", set=["train.steps=20"])'
    )
    assert shorter != code
    process = begun(cwd=tmp_path, code=shorter)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 0, said


def test_readme_opens_with_the_command_that_ci_runs() -> None:
    text = README.read_text(encoding="utf-8")
    setups = re.findall(r"^python3 -m venv .*$", text, re.MULTILINE)
    assert [line.rsplit("/", 1)[1] for line in setups] == ["charlm train", "pytest -n auto"]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert setups[1] in ci


def test_the_description_on_a_package_index_has_no_dead_links() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    description = README.read_text(encoding="utf-8")
    for rule in project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        description, count = re.subn(rule["pattern"], rule["replacement"], description)
        assert count
    assert not re.search(r"\]\((?!https?:)", description)
    assert "Documentation, all options" in description
    assert len(description) > 0.8 * len(README.read_text(encoding="utf-8"))


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").split()) <= 900


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_paths_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (document.parent / target).exists(), target


def test_the_map_of_the_house_names_every_room() -> None:
    text = (ROOT / "charlm" / "README.md").read_text(encoding="utf-8")
    tree = re.search(r"^charlm/\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert tree is not None
    named = set(re.findall(r"^  (\w+)/", tree[1], re.MULTILINE))
    wings = {path.parent.name for path in (ROOT / "charlm").glob("*/__init__.py")}
    assert named == wings


def test_the_readme_names_every_preset() -> None:
    text = README.read_text(encoding="utf-8")
    listed = re.search(r"Presets: (.*?)\n\n", text, re.DOTALL)
    assert listed is not None
    assert set(re.findall(r"`([a-z-]+)`", listed[1])) == set(presets.names())
